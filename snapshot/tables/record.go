package tables

import (
	"encoding/binary"
	"fmt"
	"math"
)

// varint returns the number at the start of b and its length, 0 when b ends
// within it. (SQLite's are big-endian, and the ninth byte counts whole.)
func varint(b []byte) (v uint64, size int) {
	for i, c := range b[:min(len(b), 9)] {
		if i == 8 {
			return v<<8 | uint64(c), 9
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// appendVarint appends v, which is below 1<<56: lengths and numbers of rows are.
func appendVarint(b []byte, v uint64) []byte {
	for shift := 49; shift > 0; shift -= 7 {
		if v>>shift != 0 {
			b = append(b, byte(v>>shift)|0x80)
		}
	}
	return append(b, byte(v&0x7f))
}

// value is a value of a record as it is stored.
type value struct {
	serial uint64 // says what it is, SQLite file format §2.1
	body   []byte
}

// bodySize returns how long the body of a value is, -1 when there is no such
// type.
func bodySize(serial uint64) int {
	switch {
	case serial <= 4:
		return int(serial)
	case serial == 5:
		return 6
	case serial <= 7:
		return 8
	case serial <= 9:
		return 0
	case serial <= 11 || serial > math.MaxInt32:
		return -1
	}
	return int(serial-12) / 2
}

// parseRecord takes a record apart.
func parseRecord(b []byte) ([]value, error) {
	bad := fmt.Errorf("%w: a row of the schema makes no sense", ErrDamaged)
	head, at := varint(b)
	if at == 0 || head > uint64(len(b)) || head < uint64(at) {
		return nil, bad
	}
	types, bodies := b[at:head], b[head:]
	var values []value
	for len(types) > 0 {
		serial, n := varint(types)
		size := bodySize(serial)
		if n == 0 || size < 0 || size > len(bodies) {
			return nil, bad
		}
		values = append(values, value{serial, bodies[:size]})
		types, bodies = types[n:], bodies[size:]
	}
	return values, nil
}

// encodeRecord is the inverse of parseRecord.
func encodeRecord(values []value) []byte {
	var types, bodies []byte
	for _, v := range values {
		types = appendVarint(types, v.serial)
		bodies = append(bodies, v.body...)
	}
	head := len(types) + 1 // with its own length
	if head > 127 {
		head++ // no record here has the 16,000 columns that would need a third byte
	}
	return append(append(appendVarint(nil, uint64(head)), types...), bodies...)
}

// isText reports whether v is text.
func (v value) isText() bool { return v.serial >= 13 && v.serial%2 == 1 }

// integer returns the integer that v is, 0 when it is none.
func (v value) integer() int64 {
	switch {
	case v.serial == 9:
		return 1
	case v.serial == 0 || v.serial > 6:
		return 0
	}
	n := int64(int8(v.body[0]))
	for _, b := range v.body[1:] {
		n = n<<8 | int64(b)
	}
	return n
}

// integerValue returns n, which is below 1<<47, as a value.
func integerValue(n int64) value {
	b := binary.BigEndian.AppendUint64(nil, uint64(n))
	if n <= math.MaxInt32 {
		return value{4, b[4:]}
	}
	return value{5, b[2:]}
}
