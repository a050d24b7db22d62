package pack

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// repeated returns a block that says as much as can be said with as little: n
// times 128 KiB of one byte. It states that its content is of size bytes.
func repeated(n int, size uint32) []byte {
	b := []byte{codecZstd, 0x28, 0xb5, 0x2f, 0xfd, 0xa0} // RFC 8878 §3.1.1: one segment, four bytes of size
	b = binary.LittleEndian.AppendUint32(b, size)
	for i := range n {
		header := uint32(128<<10<<3 | 1<<1) // a block of one byte repeated
		if i == n-1 {
			header |= 1 // the last one
		}
		b = append(b, byte(header), byte(header>>8), byte(header>>16), 'x')
	}
	return b
}

// TestBlockOfRepeats: what compresses best is within what a block may claim.
func TestBlockOfRepeats(t *testing.T) {
	for _, n := range []int{1, 2, maxMeta >> 17} {
		plain, err := decodeBlock(nil, repeated(n, uint32(n)<<17), maxMeta)
		if err != nil || len(plain) != n<<17 || len(bytes.Trim(plain, "x")) > 0 {
			t.Fatalf("%d times 128 KiB: %d bytes, %v", n, len(plain), err)
		}
	}
}

// TestBlockClaimsTooMuch: memory is taken for what a block can hold, not for what
// it claims to hold.
func TestBlockClaimsTooMuch(t *testing.T) {
	b := repeated(1, maxMeta)
	if _, err := decodeBlock(nil, b, maxMeta); err == nil {
		t.Fatalf("%d bytes decoded to %d", len(b), maxMeta)
	}
	before := allocated()
	for range 10 {
		if _, err := decodeBlock(nil, b, maxMeta); err == nil {
			t.Fatal("it decodes now and then")
		}
	}
	if took := allocated() - before; took > maxMeta {
		t.Fatalf("ten blocks of %d bytes took %d bytes", len(b), took)
	}
}
