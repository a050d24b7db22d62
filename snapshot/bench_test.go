package snapshot

import (
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// benchView is a database of 64 MiB under n segments of a commit each.
func benchView(b *testing.B, n int) (*View, *rand.Rand) {
	r := rand.New(rand.NewPCG(1, 1))
	l := begin(r, 4096, 64<<20/4096)
	packs := []*pack.Reader{l.snapshot(b, 0)}
	for i := range n {
		l.commit(r, 64<<20/4096, 4)
		l.images[i] = nil // nobody looks at it again
		packs = append(packs, l.segment(b, i+1, i+2))
	}
	slices.Reverse(packs)
	return l.view(b, n, packs...), r
}

func BenchmarkReadPage(b *testing.B) {
	v, r := benchView(b, 100)
	page := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if err := v.ReadPage(wal.Pgno(1+r.Uint32N(uint32(v.Txn().Size))), page); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadAt reads as the kernel does for a sequential reader.
func BenchmarkReadAt(b *testing.B) {
	v, _ := benchView(b, 100)
	buf := make([]byte, 128<<10)
	b.SetBytes(int64(len(buf)))
	off := int64(0)
	for b.Loop() {
		if _, err := v.ReadAt(buf, off); err != nil {
			b.Fatal(err)
		}
		off = (off + int64(len(buf))) % v.Size()
	}
}

func BenchmarkWriteTo(b *testing.B) {
	v, _ := benchView(b, 100)
	b.SetBytes(v.Size())
	for b.Loop() {
		if _, err := v.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
