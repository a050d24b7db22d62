package wal

import (
	"encoding/binary"
	"fmt"
)

// JournalHeaderSize is the length of the header a rollback journal begins with,
// in bytes (SQLite file format §3). The rest of its sector means nothing.
const JournalHeaderSize = 28

// The sizes of a sector that SQLite takes from a journal, in bytes.
const (
	minSectorSize = 32
	maxSectorSize = 65536
)

var journalMagic = [8]byte{0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7}

// JournalHeader is the header of a rollback journal.
type JournalHeader struct {
	Records    uint32 // pages in the journal; all ones: as many as the file has
	Nonce      uint32 // begins the checksum of every record
	Size       Pgno   // pages in the database before the transaction
	SectorSize int    // bytes, a power of two
	PageSize   int    // bytes; 0: that of the database (SQLite before 3.5.8)
}

// ParseJournalHeader parses the JournalHeaderSize bytes at the start of b. It
// refuses, with a *FormatError, a header that SQLite plays nothing back behind:
// a transaction that was ended, or whose journal was not synced yet, so that it
// has not written to the database either.
func ParseJournalHeader(b []byte) (JournalHeader, error) {
	bad := func(format string, args ...any) (JournalHeader, error) {
		return JournalHeader{}, &FormatError{What: "journal header", Problem: fmt.Sprintf(format, args...)}
	}
	if len(b) < JournalHeaderSize {
		return bad("%d bytes, want %d", len(b), JournalHeaderSize)
	}
	word := func(i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }
	h := JournalHeader{
		Records:    word(2),
		Nonce:      word(3),
		Size:       Pgno(word(4)),
		SectorSize: int(word(5)),
		PageSize:   int(word(6)),
	}
	switch {
	case [8]byte(b) != journalMagic:
		return bad("magic %x", b[:8])
	case h.SectorSize < minSectorSize || h.SectorSize > maxSectorSize || h.SectorSize&(h.SectorSize-1) != 0:
		return bad("sector size %d", h.SectorSize)
	case h.PageSize != 0 && !ValidPageSize(h.PageSize):
		return bad("page size %d", h.PageSize)
	}
	return h, nil
}

// Append appends the JournalHeaderSize bytes of h to b.
func (h JournalHeader) Append(b []byte) []byte {
	b = append(b, journalMagic[:]...)
	for _, w := range [...]uint32{h.Records, h.Nonce, uint32(h.Size), uint32(h.SectorSize), uint32(h.PageSize)} {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}
