package pack

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// FormatVersion is the version of the format this package writes.
const FormatVersion = 1

const (
	headerSize  = 16
	trailerSize = 32

	headerMagic  = "walback<"
	trailerMagic = ">walback"

	// TailSize is how many bytes of its end Open reads of an object first.
	TailSize = 16 << 10

	// maxGroup and maxMeta bound the plaintext of a group and of any other
	// block, in bytes, so that damaged lengths cannot exhaust memory.
	maxGroup = 16 << 20
	maxMeta  = 64 << 20
)

// Bits of the flags byte of header and root. The header has only the first.
const (
	flagFuzzy     = 1 << 0
	flagLog       = 1 << 1 // the mark has a log position
	flagBigEndian = 1 << 2 // of the log's checksums
	flagShrinks   = 1 << 3
	flagThinned   = 1 << 4
	flagsKnown    = flagFuzzy | flagLog | flagBigEndian | flagShrinks | flagThinned
)

// appendHeader appends the sixteen bytes a pack begins with. They say nothing
// that the root does not say, so they need no checksum: Verify compares.
func appendHeader(b []byte, kind Kind, pageSize int, fuzzy bool) []byte {
	b = append(b, headerMagic...)
	b = append(b, FormatVersion, byte(kind), log2(pageSize), 0)
	if fuzzy {
		b[len(b)-1] = flagFuzzy
	}
	return append(b, 0, 0, 0, 0)
}

// appendTrailer appends the last bytes of an object in which a root of n stored
// bytes lies at off.
func appendTrailer(b []byte, off int64, n int, place Place) []byte {
	var body [trailerSize - sumSize - len(trailerMagic)]byte
	binary.BigEndian.PutUint64(body[0:], uint64(off))
	binary.BigEndian.PutUint32(body[8:], uint32(n))
	body[12] = FormatVersion
	b = Checksummed{}.Seal(b, body[:], place, off+int64(n))
	return append(b, trailerMagic...)
}

// parseTrailer returns where the root lies in an object of size bytes whose
// last trailerSize bytes are b. Its layout is the same in every format version.
func parseTrailer(b []byte, size int64, place Place) (off int64, n int, err error) {
	at := size - trailerSize
	bad := func(what string) (int64, int, error) {
		return 0, 0, &CorruptError{Place: place, Off: at, What: what}
	}
	if string(b[trailerSize-len(trailerMagic):]) != trailerMagic {
		return bad("the object does not end with a pack's trailer: truncated, or no pack")
	}
	body, err := Checksummed{}.Open(b[:trailerSize-len(trailerMagic)], place, at)
	if err != nil {
		return bad("trailer: " + err.Error())
	}
	if v := body[12]; v != FormatVersion {
		return 0, 0, fmt.Errorf("generation %s: %s: %w %d; this program knows version %d: use a newer walback",
			place.Generation, place.Name, ErrVersion, v, FormatVersion)
	}
	off, n = int64(binary.BigEndian.Uint64(body)), int(binary.BigEndian.Uint32(body[8:]))
	if off < headerSize || off > at || at-off != int64(n) || body[13]|body[14]|body[15] != 0 {
		return bad("trailer: the root it names is not in front of it")
	}
	return off, n, nil
}

// log2 returns the exponent of a power of two.
func log2(n int) byte { return byte(bits.TrailingZeros(uint(n))) }
