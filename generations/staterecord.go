package generations

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/bits"

	"github.com/walback/walback/wal"
)

// stateRecord is the head of a record in the file of states: a transaction, and
// how many checksums of pages follow. A record is
//
//	generation, that of the transaction in front, index, time, checksum   8 bytes each
//	size, pages written, checksums that follow                            4 bytes each
//	log₂ of the page size, flags                                          1 byte each
//	for each: page number, checksum                                       4 and 8 bytes
//	CRC-32 of all that                                                    4 bytes
//
// A full record has the checksums of all pages, the others those of the pages
// that the transaction wrote.
type stateRecord struct {
	generation ID
	before     ID // generation of the transaction in front; of no meaning in a full record
	txn        wal.TxnInfo
	pageSize   int
	full       bool
	fuzzy      bool // the transaction is of no instant: its checksum is unknown
	sums       uint32

	off int64 // of the record in the file
}

const (
	stateHeadSize = 5*8 + 3*4 + 2
	stateSumSize  = 4 + 8
	stateTailSize = 4

	stateFull  = 1
	stateFuzzy = 2
)

// length returns the length of the record, in bytes.
func (r stateRecord) length() int64 {
	return stateHeadSize + int64(r.sums)*stateSumSize + stateTailSize
}

// at returns what the transaction of r is known by.
func (r stateRecord) at() stateKey { return stateKey{r.generation, r.txn.ID} }

// stateKey names a transaction of a client, whatever generations it has.
type stateKey struct {
	generation ID
	txn        wal.TXID
}

// front returns the transaction in front of that of r.
func (r stateRecord) front() stateKey { return stateKey{r.before, r.txn.ID - 1} }

// appendHead encodes all but the checksums.
func (r stateRecord) appendHead(b []byte) []byte {
	for _, v := range []uint64{uint64(r.generation), uint64(r.before), uint64(r.txn.ID), uint64(r.txn.Time), uint64(r.txn.Checksum)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	for _, v := range []uint32{uint32(r.txn.Size), uint32(r.txn.Pages), r.sums} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	var flags byte
	if r.full {
		flags |= stateFull
	}
	if r.fuzzy {
		flags |= stateFuzzy
	}
	return append(b, byte(bits.TrailingZeros(uint(r.pageSize))), flags)
}

// parseStateHead is the inverse of appendHead; false when b is no head.
func parseStateHead(b []byte) (r stateRecord, ok bool) {
	u64 := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	u32 := func(i int) uint32 { return binary.BigEndian.Uint32(b[5*8+4*i:]) }
	flags := b[stateHeadSize-1]
	r = stateRecord{
		generation: ID(u64(0)), before: ID(u64(1)),
		txn: wal.TxnInfo{
			ID: wal.TXID(u64(2)), Time: wal.Time(u64(3)), Checksum: wal.Checksum(u64(4)),
			Size: wal.Pgno(u32(0)), Pages: wal.Pgno(u32(1)),
		},
		sums: u32(2), full: flags&stateFull != 0, fuzzy: flags&stateFuzzy != 0,
	}
	if e := b[stateHeadSize-2]; e < 32 {
		r.pageSize = 1 << e
	}
	return r, wal.ValidPageSize(r.pageSize) && r.generation != 0 && r.txn.ID != 0 &&
		r.sums <= uint32(r.txn.Size) && (r.sums == uint32(r.txn.Size) || !r.full) && flags <= stateFull|stateFuzzy
}

// stateWriter writes one record, checksum by checksum.
type stateWriter struct {
	w    *bufio.Writer // keeps its first error
	crc  uint32
	left uint32 // checksums still to come
}

// newStateWriter begins the record r.
func newStateWriter(w *bufio.Writer, r stateRecord) *stateWriter {
	s := &stateWriter{w: w, left: r.sums}
	s.write(r.appendHead(make([]byte, 0, stateHeadSize)))
	return s
}

func (s *stateWriter) write(b []byte) {
	s.crc = crc32.Update(s.crc, crc32.IEEETable, b)
	s.w.Write(b)
}

// add adds the checksum of page p.
func (s *stateWriter) add(p wal.Pgno, sum wal.Checksum) {
	var b [stateSumSize]byte
	binary.BigEndian.PutUint32(b[:], uint32(p))
	binary.BigEndian.PutUint64(b[4:], uint64(sum))
	s.write(b[:])
	s.left--
}

// finish ends the record.
func (s *stateWriter) finish() error {
	if s.left != 0 {
		return errors.New("not as many pages as were announced")
	}
	s.w.Write(binary.BigEndian.AppendUint32(nil, s.crc))
	return s.w.Flush()
}

// readStates returns the records of a file, up to the first that is torn or
// damaged, and where that begins.
func readStates(f io.ReaderAt, size int64) (records []stateRecord, end int64, err error) {
	in := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 64<<10)
	head := make([]byte, stateHeadSize)
	for size-end >= stateHeadSize+stateTailSize {
		if _, err := io.ReadFull(in, head); err != nil {
			return nil, 0, err
		}
		r, ok := parseStateHead(head)
		r.off = end
		if !ok || r.length() > size-end {
			break
		}
		crc, err := crcOf(in, crc32.ChecksumIEEE(head), int64(r.sums)*stateSumSize)
		if err != nil {
			return nil, 0, err
		}
		if _, err := io.ReadFull(in, head[:stateTailSize]); err != nil {
			return nil, 0, err
		}
		if binary.BigEndian.Uint32(head) != crc {
			break
		}
		records, end = append(records, r), end+r.length()
	}
	return records, end, nil
}

// crcOf returns the CRC-32 of what has one already and the next n bytes of in.
func crcOf(in *bufio.Reader, crc uint32, n int64) (uint32, error) {
	for n > 0 {
		b, err := in.Peek(int(min(n, int64(in.Size()))))
		if err != nil {
			return 0, err
		}
		crc = crc32.Update(crc, crc32.IEEETable, b)
		in.Discard(len(b)) // they are there
		n -= int64(len(b))
	}
	return crc, nil
}

// stateReader reads records, of which there are thousands of small ones, most of
// them behind each other.
type stateReader struct {
	file io.ReaderAt
	in   *bufio.Reader
	off  int64 // where in is, once it was used
}

// at returns a reader that begins at off.
func (s *stateReader) at(off int64) (*bufio.Reader, error) {
	if ahead := off - s.off; s.off != 0 && ahead >= 0 && ahead <= stateHeadSize+stateTailSize {
		s.off = off
		_, err := s.in.Discard(int(ahead))
		return s.in, err
	}
	s.in.Reset(io.NewSectionReader(s.file, off, math.MaxInt64-off))
	s.off = off
	return s.in, nil
}

// apply brings s, which may be nil for a full record, up to date with r, which it
// reads from file.
func (r stateRecord) apply(file *stateReader, s *wal.PageSums) (*wal.PageSums, error) {
	if r.full || s == nil {
		s = wal.NewPageSums(r.pageSize)
	}
	s.Resize(r.txn.Size, r.pageSize)
	in, err := file.at(r.off + stateHeadSize)
	if err != nil {
		return nil, err
	}
	file.off += int64(r.sums) * stateSumSize
	var b [stateSumSize]byte
	for range r.sums {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return nil, err
		}
		p := wal.Pgno(binary.BigEndian.Uint32(b[:]))
		if p == 0 || p > r.txn.Size {
			return nil, fmt.Errorf("page %d of a database of %d", p, r.txn.Size)
		}
		s.Set(p, wal.Checksum(binary.BigEndian.Uint64(b[4:])))
	}
	return s, nil
}
