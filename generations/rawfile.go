package generations

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/walback/walback/wal"
)

// The file of a raw piece has
//
//	"walbraw1"
//	length of the description                                     4 bytes
//	CRC-32 of the description                                     4 bytes
//	the description:
//	    generation, first and last transaction                    8 bytes each
//	    page size, length of the client's name                    4 bytes each
//	    the client's name
//	    for each transaction:
//	        time, checksum                                        8 bytes each
//	        size, frames                                          4 bytes each
//	        log position: salts, frames, running checksum         4 + 4, 4, 4 + 4 bytes
//	        1 when the checksums of the log are big-endian        1 byte
//	        for each frame: page number, where in the copy        4 bytes each
//	                        checksum                              8 bytes
//	the copied part of the log
//	what was there before
//
// Numbers are big-endian. The pages are proved by the checksums of the frames.

const (
	rawMagic     = "walbraw1"
	rawBegin     = len(rawMagic) + 2*4
	rawHeadSize  = 3*8 + 2*4
	rawTxnSize   = 2*8 + 2*4 + 5*4 + 1
	rawFrameSize = 4 + 4 + 8
)

// errNotRaw says that a file is no raw piece.
var errNotRaw = errors.New("no raw piece")

// appendRawHead appends what is in front of the copied part of the log.
func appendRawHead(b []byte, p *rawPiece) []byte {
	be, from := binary.BigEndian, len(b)
	b = append(b, rawMagic...)
	b = append(b, make([]byte, 2*4)...)
	b = be.AppendUint64(b, uint64(p.Generation))
	b = be.AppendUint64(b, uint64(p.First))
	b = be.AppendUint64(b, uint64(p.Last))
	b = be.AppendUint32(b, uint32(p.txns[0].PageSize))
	b = be.AppendUint32(b, uint32(len(p.Client)))
	b = append(b, p.Client...)
	for _, t := range p.txns {
		b = appendRawTxn(b, t)
	}
	described := b[from+rawBegin:]
	be.PutUint32(b[from+len(rawMagic):], uint32(len(described)))
	be.PutUint32(b[from+len(rawMagic)+4:], crc32.ChecksumIEEE(described))
	return b
}

func appendRawTxn(b []byte, t *wal.Txn) []byte {
	be := binary.BigEndian
	b = be.AppendUint64(b, uint64(t.Time))
	b = be.AppendUint64(b, uint64(t.Checksum))
	for _, v := range []uint32{uint32(t.Size), uint32(len(t.Frames)), t.End.Salt1, t.End.Salt2, t.End.Frames, t.End.Sum[0], t.End.Sum[1]} {
		b = be.AppendUint32(b, v)
	}
	bigEndian := byte(0)
	if t.End.BigEndian {
		bigEndian = 1
	}
	b = append(b, bigEndian)
	for _, f := range t.Frames {
		b = be.AppendUint32(b, uint32(f.Pgno))
		b = be.AppendUint32(b, uint32(f.Off))
		b = be.AppendUint64(b, uint64(f.Sum))
	}
	return b
}

// readRawHead reads what a file of so many bytes tells. The error is errNotRaw
// when that is not what appendRawHead has written.
func readRawHead(f io.ReaderAt, size int64) (*rawPiece, error) {
	begin := make([]byte, rawBegin)
	if size < int64(len(begin)) {
		return nil, errNotRaw
	}
	if _, err := f.ReadAt(begin, 0); err != nil && err != io.EOF {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(begin[len(rawMagic):]))
	base := int64(rawBegin) + n
	if string(begin[:len(rawMagic)]) != rawMagic || base > size {
		return nil, errNotRaw
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, int64(rawBegin)); err != nil && err != io.EOF {
		return nil, err
	}
	if crc32.ChecksumIEEE(b) != binary.BigEndian.Uint32(begin[len(rawMagic)+4:]) {
		return nil, errNotRaw
	}
	p, ok := parseRaw(b, size-base)
	if !ok {
		return nil, errNotRaw
	}
	p.base, p.size = base, size
	return p, nil
}

// parseRaw parses the description of what was copied, which is at most so long;
// false when it is none.
func parseRaw(b []byte, copied int64) (*rawPiece, bool) {
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
