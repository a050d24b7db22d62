package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// DatabaseHeaderSize is the length of the header at the start of page 1, in
// bytes (SQLite file format §1.3).
const DatabaseHeaderSize = 100

// minUsableSize is the least number of bytes a page must have beside the
// reserved ones (SQLite file format §1.3.4).
const minUsableSize = 480

// DatabaseHeader is what matters here of the first 100 bytes of a database
// file.
type DatabaseHeader struct {
	PageSize      int  // bytes, a power of two from MinPageSize to MaxPageSize
	Size          Pgno // pages; see SizeValid
	WriteVersion  byte // 1 rollback journal, 2 log; more: SQLite opens it read-only
	ReadVersion   byte // 1 rollback journal, 2 log
	Reserved      int  // bytes unused at the end of each page
	ChangeCounter uint32
	// VersionValidFor is the ChangeCounter at the time Size was written.
	VersionValidFor uint32
}

// WAL reports whether the database is in write-ahead-log mode.
func (h DatabaseHeader) WAL() bool { return h.ReadVersion == 2 }

// SizeValid reports whether Size can be trusted. SQLite before 3.7.0 does not
// keep it (SQLite file format §1.3.8); the size of the file rules then.
func (h DatabaseHeader) SizeValid() bool {
	return h.Size != 0 && h.ChangeCounter == h.VersionValidFor
}

// ParseDatabaseHeader parses the DatabaseHeaderSize bytes at the start of b. It
// refuses, with a *FormatError, what SQLite refuses to open as a database.
func ParseDatabaseHeader(b []byte) (DatabaseHeader, error) {
	bad := func(format string, args ...any) (DatabaseHeader, error) {
		return DatabaseHeader{}, &FormatError{What: "database header", Problem: fmt.Sprintf(format, args...)}
	}
	if len(b) < DatabaseHeaderSize {
		return bad("%d bytes, want %d", len(b), DatabaseHeaderSize)
	}
	h := DatabaseHeader{
		PageSize:        int(binary.BigEndian.Uint16(b[16:])),
		WriteVersion:    b[18],
		ReadVersion:     b[19],
		Reserved:        int(b[20]),
		ChangeCounter:   binary.BigEndian.Uint32(b[24:]),
		Size:            Pgno(binary.BigEndian.Uint32(b[28:])),
		VersionValidFor: binary.BigEndian.Uint32(b[92:]),
	}
	if h.PageSize == 1 { // 65536 does not fit
		h.PageSize = MaxPageSize
	}
	switch {
	case !bytes.HasPrefix(b, []byte("SQLite format 3\x00")):
		return bad("it does not begin with \"SQLite format 3\"")
	case !ValidPageSize(h.PageSize):
		return bad("page size %d", h.PageSize)
	case h.ReadVersion > 2:
		return bad("read version %d is from a later SQLite", h.ReadVersion)
	case !bytes.Equal(b[21:24], []byte{64, 32, 32}):
		return bad("payload fractions %d, %d, %d, want 64, 32, 32", b[21], b[22], b[23])
	case h.PageSize-h.Reserved < minUsableSize:
		return bad("%d of %d bytes of each page reserved", h.Reserved, h.PageSize)
	}
	return h, nil
}
