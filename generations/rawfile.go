package generations

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/walback/walback/wal"
)

// The file of a raw piece has the copied part of the log, and behind it
//
//	generation, first and last transaction                        8 bytes each
//	page size, length of the client's name                        4 bytes each
//	the client's name
//	for each transaction:
//	    time, checksum                                            8 bytes each
//	    size, frames                                              4 bytes each
//	    log position: salts, frames, running checksum, big-endian 4 + 4, 4, 4 + 4, 1 bytes
//	    for each frame: page number, where in the copy, checksum  4, 4, 8 bytes
//	length of all that                                            4 bytes
//	CRC-32 of all that                                            4 bytes
//	"walbraw1"
//
// Numbers are big-endian. The pages are proved by the checksums of the frames.

const (
	rawMagic     = "walbraw1"
	rawHeadSize  = 3*8 + 2*4
	rawTxnSize   = 2*8 + 2*4 + 5*4 + 1
	rawFrameSize = 4 + 4 + 8
	rawEndSize   = 4 + 4 + len(rawMagic)
)

// errRawTail says that a file is no raw piece, or is not all there.
var errRawTail = errors.New("no raw piece")

// appendRawTail appends what is behind the copied part of the log, which is so
// many bytes long.
func appendRawTail(b []byte, p *rawPiece, copied int64) []byte {
	be, from := binary.BigEndian, len(b)
	b = be.AppendUint64(b, uint64(p.Generation))
	b = be.AppendUint64(b, uint64(p.First))
	b = be.AppendUint64(b, uint64(p.Last))
	b = be.AppendUint32(b, uint32(p.txns[0].PageSize))
	b = be.AppendUint32(b, uint32(len(p.Client)))
	b = append(b, p.Client...)
	for _, t := range p.txns {
		b = be.AppendUint64(b, uint64(t.Time))
		b = be.AppendUint64(b, uint64(t.Checksum))
		bigEndian := byte(0)
		if t.End.BigEndian {
			bigEndian = 1
		}
		for _, v := range []uint32{uint32(t.Size), uint32(len(t.Frames)), t.End.Salt1, t.End.Salt2, t.End.Frames, t.End.Sum[0], t.End.Sum[1]} {
			b = be.AppendUint32(b, v)
		}
		b = append(b, bigEndian)
		for _, f := range t.Frames {
			b = be.AppendUint32(b, uint32(f.Pgno))
			b = be.AppendUint32(b, uint32(f.Off))
			b = be.AppendUint64(b, uint64(f.Sum))
		}
	}
	n := len(b) - from
	b = be.AppendUint32(b, uint32(n))
	b = be.AppendUint32(b, crc32.ChecksumIEEE(b[from:from+n]))
	return append(b, rawMagic...)
}

// readRawTail reads what a file of so many bytes tells. The error is errRawTail
// when that is not what appendRawTail has written.
func readRawTail(f io.ReaderAt, size int64) (*rawPiece, error) {
	end := make([]byte, rawEndSize)
	if size < int64(len(end)) {
		return nil, errRawTail
	}
	if _, err := f.ReadAt(end, size-int64(len(end))); err != nil && err != io.EOF {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(end))
	copied := size - int64(len(end)) - n
	if string(end[8:]) != rawMagic || copied < 0 {
		return nil, errRawTail
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, copied); err != nil && err != io.EOF {
		return nil, err
	}
	if crc32.ChecksumIEEE(b) != binary.BigEndian.Uint32(end[4:]) {
		return nil, errRawTail
	}
	p, ok := parseRawTail(b, copied)
	if !ok {
		return nil, errRawTail
	}
	p.size = size
	return p, nil
}

// parseRawTail is the inverse of appendRawTail, without what ends it.
func parseRawTail(b []byte, copied int64) (*rawPiece, bool) {
	be := binary.BigEndian
	if len(b) < rawHeadSize {
		return nil, false
	}
	p := &rawPiece{Object: Object{
		Kind: PieceObject, Generation: ID(be.Uint64(b)), First: wal.TXID(be.Uint64(b[8:])), Last: wal.TXID(be.Uint64(b[16:])),
	}}
	pageSize, name := int(be.Uint32(b[24:])), int(be.Uint32(b[28:]))
	b = b[rawHeadSize:]
	if name > len(b) || !wal.ValidPageSize(pageSize) || p.First == 0 || p.Last < p.First || p.Last > wal.MaxTXID {
		return nil, false
	}
	p.Client, b = string(b[:name]), b[name:]
	if o, err := ParseKey(p.Key()); err != nil || o != p.Object {
		return nil, false
	}
	var before wal.Time
	for id := p.First; id <= p.Last; id++ {
		var t *wal.Txn
		if t, b = parseRawTxn(b, pageSize, copied); t == nil || t.Time <= before {
			return nil, false
		}
		t.ID, before = id, t.Time
		p.txns = append(p.txns, t)
	}
	return p, len(b) == 0
}

// parseRawTxn parses a transaction, and returns what is behind it; nil when there
// is none.
func parseRawTxn(b []byte, pageSize int, copied int64) (*wal.Txn, []byte) {
	be := binary.BigEndian
	if len(b) < rawTxnSize || b[rawTxnSize-1] > 1 {
		return nil, nil
	}
	u32 := func(i int) uint32 { return be.Uint32(b[16+4*i:]) }
	t := &wal.Txn{
		TxnInfo:  wal.TxnInfo{Time: wal.Time(be.Uint64(b)), Checksum: wal.Checksum(be.Uint64(b[8:])), Size: wal.Pgno(u32(0)), Pages: wal.Pgno(u32(1))},
		PageSize: pageSize,
		End: wal.Position{
			PageSize: pageSize, BigEndian: b[rawTxnSize-1] == 1,
			Salt1: u32(2), Salt2: u32(3), Frames: u32(4), Sum: [2]uint32{u32(5), u32(6)},
		},
	}
	b = b[rawTxnSize:]
	if int64(t.Pages)*rawFrameSize > int64(len(b)) {
		return nil, nil
	}
	before := wal.Pgno(0)
	for range t.Pages {
		f := wal.Frame{Pgno: wal.Pgno(be.Uint32(b)), Off: int64(be.Uint32(b[4:])), Sum: wal.Checksum(be.Uint64(b[8:]))}
		if f.Pgno <= before || f.Pgno > t.Size || f.Off+int64(pageSize) > copied {
			return nil, nil
		}
		before = f.Pgno
		t.Frames = append(t.Frames, f)
		b = b[rawFrameSize:]
	}
	return t, b
}
