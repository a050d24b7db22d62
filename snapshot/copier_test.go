package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// TestAnyCopier: whatever the sizes of windows and of the memory for what is
// fetched, a copy is the database.
func TestAnyCopier(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		size := 1 + r.IntN(600)
		l := begin(r, 512, size)
		packs := []*pack.Reader{l.snapshot(t, 0)}
		n := rapid.IntRange(0, 6).Draw(rt, "segments")
		for i := range n {
			size = max(1, size+r.IntN(100)-40)
			l.commit(r, size, r.IntN(300))
			packs = append(packs, l.segment(t, i+1, i+2))
		}
		slices.Reverse(packs)
		c := newCopier(l.view(t, n, packs...), rapid.IntRange(1, 4).Draw(rt, "fillers"))
		c.size = 512 * rapid.IntRange(1, 300).Draw(rt, "pages of a window")
		c.supply.limit = rapid.Int64Range(1, 1<<18).Draw(rt, "memory")
		var out bytes.Buffer
		err := c.run(t.Context(), func(first wal.Pgno, pages []byte) error {
			if int(first-1)*512 != out.Len() {
				rt.Fatalf("page %d comes behind %d bytes", first, out.Len())
			}
			out.Write(pages)
			return nil
		})
		if err != nil || !bytes.Equal(out.Bytes(), l.images[n]) {
			rt.Fatalf("%v, or they differ", err)
		}
		if c.supply.taken != 0 {
			rt.Fatalf("%d bytes are still in use", c.supply.taken)
		}
	})
}

// ranges is a source that brings ranges.
type ranges struct {
	io.ReaderAt
	began chan int // is told the length of each
	// hold, when not nil, is waited for by each range.
	hold    chan struct{}
	running atomic.Int64
}

func (s *ranges) ReadRange(ctx context.Context, p []byte, off int64, arrived func(int)) error {
	s.running.Add(1)
	defer s.running.Add(-1)
	s.began <- len(p)
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	half := len(p) / 2
	if _, err := s.ReadAt(p[:half], off); err != nil {
		return err
	}
	arrived(half)
	_, err := s.ReadAt(p[half:], off+int64(half))
	return err
}

// ranged returns a view of 64 MiB over a source that brings ranges.
func ranged(t *testing.T) (*View, *ranges) {
	r := rand.New(rand.NewPCG(1, 1))
	l := begin(r, 65536, 64<<20/65536)
	o := l.storeSnapshot(t, 0)
	src := &ranges{ReaderAt: bytes.NewReader(o.bytes), began: make(chan int, 1000)}
	p, err := pack.Open(src, int64(len(o.bytes)), o.place, pack.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l.view(t, 0, p), src
}

// TestCopyInRanges: what lies together is fetched together, and more is under way
// at a time when that takes long.
func TestCopyInRanges(t *testing.T) {
	v, src := ranged(t)
	if err := v.CopyTo(t.Context(), io.Discard, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	sum, asked := 0, len(src.began)
	for range asked {
		sum += <-src.began
	}
	stored := int(v.sources[0].Size())
	if sum > stored || sum < stored*9/10 || asked > stored/(2<<20) {
		t.Errorf("%d bytes in %d ranges for %d stored", sum, asked, stored)
	}

	v, src = ranged(t)
	src.hold = make(chan struct{})
	done := make(chan error)
	go func() { done <- v.CopyTo(t.Context(), io.Discard, CopyOptions{}) }()
	for under := 0; under < sum; { // twice what is asked for at first
		select {
		case n := <-src.began:
			under += n
		case err := <-done:
			t.Fatalf("the copy ended with %d bytes under way: %v", under, err)
		}
	}
	close(src.hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestCopyCancelled: a copy that waits for ranges ends with its context.
func TestCopyCancelled(t *testing.T) {
	v, src := ranged(t)
	src.hold = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- v.CopyTo(ctx, io.Discard, CopyOptions{}) }()
	<-src.began
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n := src.running.Load(); n != 0 {
		t.Errorf("%d ranges are still under way", n)
	}
}

// TestRangeFails: what a range fails with is what the copy fails with.
func TestRangeFails(t *testing.T) {
	v, src := ranged(t)
	src.ReaderAt = failing{}
	if err := v.CopyTo(t.Context(), io.Discard, CopyOptions{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }
