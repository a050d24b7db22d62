package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// HeaderSize is the length of the header a log begins with, in bytes (SQLite
// file format §4.1).
const HeaderSize = 32

const (
	// magic is the first word of a log whose checksum reads it as little-endian
	// words; with the lowest bit set, as big-endian words.
	magic = 0x377f0682
	// version is the only format there has been since SQLite 3.7.0.
	version = 3007000
)

// ErrNoLog means that a file is too short to hold a log. SQLite leaves such
// files behind when it truncates a log.
var ErrNoLog = errors.New("no log: the file is shorter than a log's header")

// FormatError says why bytes are not what they were taken for.
type FormatError struct {
	What    string // what they were taken for: "log header", "database header"
	Problem string
}

func (e *FormatError) Error() string { return "not a valid " + e.What + ": " + e.Problem }

// Header is the header of a log; one header is one epoch.
type Header struct {
	PageSize     int    // bytes, a power of two from MinPageSize to MaxPageSize
	Checkpoint   uint32 // counts the restarts of the log, more or less: nothing may depend on it
	Salt1, Salt2 uint32 // SQLite adds one to Salt1 when it restarts the log; Salt2 is random
	BigEndian    bool   // the checksum reads the log as big-endian words
	Sum          [2]uint32
}

// ParseHeader parses the HeaderSize bytes at the start of b. The error is
// ErrNoLog if b is shorter, and otherwise a *FormatError; a header that is being
// written or was torn by a crash gives the latter too. SQLite takes a log with
// such a header for an empty one.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, ErrNoLog
	}
	word := func(i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }
	h := Header{
		PageSize:   int(word(2)),
		Checkpoint: word(3),
		Salt1:      word(4),
		Salt2:      word(5),
		BigEndian:  word(0)&1 != 0,
		Sum:        [2]uint32{word(6), word(7)},
	}
	bad := func(format string, args ...any) (Header, error) {
		return Header{}, &FormatError{What: "log header", Problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case word(0)&^1 != magic:
		return bad("magic %#08x", word(0))
	case word(1) != version:
		return bad("version %d, want %d", word(1), version)
	case !ValidPageSize(h.PageSize):
		return bad("page size %d", word(2))
	case chain(h.BigEndian, [2]uint32{}, b[:HeaderSize-8]) != h.Sum:
		return bad("checksum mismatch")
	}
	return h, nil
}

// Append appends the HeaderSize bytes of h to b. A header that was parsed
// encodes to the same bytes again.
func (h Header) Append(b []byte) []byte {
	m := uint32(magic)
	if h.BigEndian {
		m |= 1
	}
	for _, w := range [...]uint32{m, version, uint32(h.PageSize), h.Checkpoint, h.Salt1, h.Salt2, h.Sum[0], h.Sum[1]} {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// start returns the position between the header and the first frame.
func (h Header) start() Position {
	return Position{
		Salt1: h.Salt1, Salt2: h.Salt2, Sum: h.Sum,
		PageSize: h.PageSize, BigEndian: h.BigEndian,
	}
}

// chain goes on with a running checksum over b, whose length is a multiple of
// eight (SQLite file format §4.2, "Checksum Algorithm").
func chain(bigEndian bool, sum [2]uint32, b []byte) [2]uint32 {
	// Every word of the sum depends on the one before it, so this is bound by
	// latency: two additions a word, in an order that keeps the third off the
	// critical path.
	s1, s2 := sum[0], sum[1]
	if bigEndian {
		for ; len(b) >= 8; b = b[8:] {
			s1 = (s1 + binary.BigEndian.Uint32(b)) + s2
			s2 = (s2 + binary.BigEndian.Uint32(b[4:])) + s1
		}
	} else {
		for ; len(b) >= 8; b = b[8:] {
			s1 = (s1 + binary.LittleEndian.Uint32(b)) + s2
			s2 = (s2 + binary.LittleEndian.Uint32(b[4:])) + s1
		}
	}
	return [2]uint32{s1, s2}
}
