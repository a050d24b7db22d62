package pack

import "encoding/binary"

// fields takes the numbers out of a block one by one. What is missing, too
// large or not in its shortest form makes it bad, and from then on everything
// reads as zero, so that a parser may look once at its end.
type fields struct {
	b   []byte
	bad bool
}

// uvarint takes an unsigned LEB128 number of at most max.
func (f *fields) uvarint(max uint64) uint64 {
	if len(f.b) > 0 && f.b[0] < 0x80 { // most are short
		v := uint64(f.b[0])
		f.b = f.b[1:]
		if v > max {
			f.fail()
			return 0
		}
		return v
	}
	v, n := binary.Uvarint(f.b)
	if n <= 0 || f.b[n-1] == 0 || v > max {
		f.fail()
		return 0
	}
	f.b = f.b[n:]
	return v
}

// skip passes over n unsigned numbers, of any form.
func (f *fields) skip(n int) {
	for i := 0; n > 0; i++ {
		if i == len(f.b) {
			f.fail()
			return
		}
		if f.b[i] < 0x80 {
			if n--; n == 0 {
				f.b = f.b[i+1:]
			}
		}
	}
}

// varint takes a zigzag-coded signed number between -max and max.
func (f *fields) varint(max int64) int64 {
	u := f.uvarint(2 * uint64(max))
	return int64(u>>1) ^ -int64(u&1)
}

func (f *fields) byte() byte {
	if len(f.b) < 1 {
		f.fail()
		return 0
	}
	v := f.b[0]
	f.b = f.b[1:]
	return v
}

func (f *fields) uint32() uint32 {
	if len(f.b) < 4 {
		f.fail()
		return 0
	}
	v := binary.BigEndian.Uint32(f.b)
	f.b = f.b[4:]
	return v
}

func (f *fields) uint64() uint64 {
	if len(f.b) < 8 {
		f.fail()
		return 0
	}
	v := binary.BigEndian.Uint64(f.b)
	f.b = f.b[8:]
	return v
}

// fail makes f bad. Callers use it for values that contradict each other.
func (f *fields) fail() { f.bad, f.b = true, nil }

// done reports whether everything was well-formed and nothing is left.
func (f *fields) done() bool { return !f.bad && len(f.b) == 0 }
