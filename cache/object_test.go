package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// randomBytes returns n bytes that depend on seed alone.
func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	rand.NewChaCha8(key).Read(b) // never fails
	return b
}

func newCache(t testing.TB, s *memStore, o Options) *Cache {
	t.Helper()
	c, err := New(s, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func readAt(t testing.TB, o *object, off, n int64, want []byte) {
	t.Helper()
	p := make([]byte, n)
	if _, err := o.ReadAt(p, off); err != nil {
		t.Fatalf("ReadAt %d bytes at %d: %v", n, off, err)
	}
	if !bytes.Equal(p, want[off:off+n]) {
		t.Fatalf("ReadAt %d bytes at %d: wrong bytes", n, off)
	}
}

// An object reads exactly as a bytes.Reader over the same bytes does, whatever
// is kept, evicted or read ahead.
func TestObjectReadsAsItsBytes(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Memory: rapid.SampledFrom([]int64{1, 3 * ChunkSize, 1 << 20}).Draw(t, "memory")}
		if rapid.Bool().Draw(t, "disk") {
			o.Dir = dir
			o.MaxBytes = rapid.SampledFrom([]int64{1, 1 << 18, 4 << 20}).Draw(t, "limit")
		}
		s := newMemStore()
		seed := rapid.Uint64Range(0, 9).Draw(t, "seed")
		data := randomBytes(rapid.IntRange(0, 100*ChunkSize).Draw(t, "size"), seed)
		key := fmt.Sprint(seed) // an object never changes
		s.set(key, data)
		c, err := New(s, nil, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		obj, ref := c.object(key, int64(len(data))), bytes.NewReader(data)
		off := int64(0)
		for range rapid.IntRange(1, 40).Draw(t, "reads") {
			if rapid.Bool().Draw(t, "jump") {
				off = rapid.Int64Range(0, int64(len(data))+10).Draw(t, "off")
			}
			p := make([]byte, rapid.IntRange(0, 5*ChunkSize).Draw(t, "n"))
			q := make([]byte, len(p))
			n, err := obj.ReadAt(p, off)
			m, want := ref.ReadAt(q, off)
			if len(p) == 0 {
				want = nil // bytes.Reader says EOF even so
			}
			if n != m || err != want || !bytes.Equal(p[:n], q[:m]) {
				t.Fatalf("ReadAt %d bytes at %d of %d: %d, %v, want %d, %v", len(p), off, len(data), n, err, m, want)
			}
			off += int64(n)
		}
	})
}

func TestOneGetHoweverManyAsk(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		synctest.Test(t, func(t *testing.T) {
			s := newMemStore()
			data := randomBytes(1<<20, 1)
			s.set("k", data)
			release := make(chan struct{})
			s.setBefore(func(context.Context) error { <-release; return nil })
			c := newCache(t, s, Options{Dir: dir, MaxBytes: 4 << 20})
			o := c.object("k", 1<<20)
			var readers sync.WaitGroup
			for i := range 50 {
				readers.Go(func() { readAt(t, o, 300_000+int64(i), 20_000, data) })
			}
			synctest.Wait() // until all of them wait for the one GET
			if got := s.gets.Load(); got != 1 {
				t.Errorf("%d GETs under way for one place, want 1", got)
			}
			close(release)
			readers.Wait()
			readAt(t, o, 300_000, 20_000, data)
			if got := s.gets.Load(); got != 1 {
				t.Errorf("%d GETs in all, want 1", got)
			}
		})
	}
}

// The first bytes of a long fetch are there before its last.
func TestReadersDoNotWaitForTheEndOfAFetch(t *testing.T) {
	f := newFetch(ChunkSize, 10*ChunkSize, false)
	f.advance(2*ChunkSize, nil)
	if err := f.wait(make([]byte, ChunkSize), 2*ChunkSize); err != nil {
		t.Error(err)
	}
	f.advance(0, io.ErrUnexpectedEOF)
	if err := f.wait(make([]byte, ChunkSize), ChunkSize); err != nil {
		t.Error("bytes that came before the error:", err)
	}
	if err := f.wait(make([]byte, 1), 3*ChunkSize); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("bytes that did not come:", err)
	}
}

func TestRandomReadsFetchWhatTheyTouch(t *testing.T) {
	const size, n, reads = 32 << 20, 20 << 10, 200
	s := newMemStore()
	data := randomBytes(size, 2)
	s.set("k", data)
	c := newCache(t, s, Options{Dir: t.TempDir()})
	o := c.object("k", size)
	r := rand.New(rand.NewPCG(1, 2))
	for range reads {
		readAt(t, o, r.Int64N(size-n), n, data)
	}
	st := c.Stats()
	if got, most := st.Bytes, int64(reads*(n+2*ChunkSize)); got > most {
		t.Errorf("fetched %d bytes for %d reads of %d, want at most %d", got, reads, n, most)
	}
	if st.Gets > reads*11/10 {
		t.Errorf("%d GETs for %d reads", st.Gets, reads)
	}
}

func TestScansAreReadAheadOf(t *testing.T) {
	const size, step = 16 << 20, 40_000
	s := newMemStore()
	data := randomBytes(size, 3)
	s.set("k", data)
	dir := t.TempDir()
	c := newCache(t, s, Options{Dir: dir})
	o := c.object("k", size)
	for off := int64(0); off < size; off += step {
		readAt(t, o, off, min(step, size-off), data)
	}
	st := c.Stats()
	if st.Bytes != size {
		t.Errorf("fetched %d bytes of %d", st.Bytes, size)
	}
	if st.Gets > 30 {
		t.Errorf("%d GETs for one scan", st.Gets)
	}
	// Nothing is read ahead of what is kept.
	for off := int64(0); off < size; off += step {
		readAt(t, o, off, min(step, size-off), data)
	}
	if now := c.Stats(); now.Gets != st.Gets {
		t.Errorf("%d GETs for a second scan", now.Gets-st.Gets)
	}
}

// What has been kept here and there neither stops a scan's readahead nor makes
// it ask for every hole.
func TestScanOverWhatIsKeptInPieces(t *testing.T) {
	const size, step = 16 << 20, 40_000
	s := newMemStore()
	data := randomBytes(size, 6)
	s.set("k", data)
	c := newCache(t, s, Options{Dir: t.TempDir()})
	o := c.object("k", size)
	for n := int64(0); n < size/ChunkSize; n += 5 {
		// From back to front, so that it is no scan.
		readAt(t, o, size-(n+1)*ChunkSize, ChunkSize, data)
	}
	before := c.Stats()
	for off := int64(0); off < size; off += step {
		readAt(t, o, off, min(step, size-off), data)
	}
	after := c.Stats()
	if gets, n := after.Gets-before.Gets, after.Bytes-before.Bytes; gets > 40 || n > size {
		t.Errorf("%d bytes in %d GETs for a scan of %d", n, gets, size)
	}
}

// A scan of more than is kept fetches in large pieces.
func TestScansOfMoreThanIsKept(t *testing.T) {
	const size, step = 40 << 20, 40_000
	s := newMemStore()
	data := randomBytes(size, 7)
	s.set("k", data)
	c := newCache(t, s, Options{Dir: t.TempDir(), MaxBytes: 33 << 20})
	o := c.object("k", size)
	for range 3 {
		before := c.Stats()
		for off := int64(0); off < size; off += step {
			readAt(t, o, off, min(step, size-off), data)
		}
		after := c.Stats()
		if gets, n := after.Gets-before.Gets, after.Bytes-before.Bytes; gets > 200 || n > size*11/10 {
			t.Errorf("%d bytes in %d GETs for a scan of %d", n, gets, size)
		}
	}
}

func TestParallelScans(t *testing.T) {
	const size, readers, step = 16 << 20, 4, 40_000
	s := newMemStore()
	data := randomBytes(size, 4)
	s.set("k", data)
	c := newCache(t, s, Options{Dir: t.TempDir()})
	o := c.object("k", size)
	var wg sync.WaitGroup
	for i := range int64(readers) {
		wg.Go(func() {
			for off := i * size / readers; off < (i+1)*size/readers; off += step {
				readAt(t, o, off, min(step, size-off), data)
			}
		})
	}
	wg.Wait()
	st := c.Stats()
	if st.Bytes > size*21/20 {
		t.Errorf("fetched %d bytes of %d", st.Bytes, size)
	}
	if st.Gets > 80 {
		t.Errorf("%d GETs for %d scans", st.Gets, readers)
	}
}

// A failed fetch fails those who waited for it, and nobody after them.
func TestFailedFetchIsForgotten(t *testing.T) {
	s := newMemStore()
	data := randomBytes(1<<20, 5)
	s.set("k", data)
	broken := errors.New("connection reset")
	c := newCache(t, s, Options{})
	o := c.object("k", 1<<20)
	s.setBefore(func(context.Context) error { return broken })
	if _, err := o.ReadAt(make([]byte, 100), 500_000); !errors.Is(err, broken) {
		t.Errorf("got %v, want the store's error", err)
	}
	s.setBefore(nil)
	readAt(t, o, 500_000, 100, data)

	// Answers that are cut go on where they ended, but not for ever.
	s.setAlter(func(b []byte) []byte { return b[:min(len(b), 10_000)] })
	readAt(t, o, 100_000, 100_000, data)
	s.setAlter(func([]byte) []byte { return nil })
	if _, err := o.ReadAt(make([]byte, 10*ChunkSize), 0); err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("answers cut short: got %v, want an error that is not the end", err)
	}
	s.setAlter(nil)
	readAt(t, o, 0, 10*ChunkSize, data)

	s.set("k", data[:1000])
	if _, err := o.ReadAt(make([]byte, 100), 900_000); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("an object of another size: got %v, want an error that is not the end", err)
	}
}

func TestCloseEndsFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemStore()
		s.set("k", make([]byte, 1<<20))
		s.setBefore(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		c, err := New(s, nil, Options{})
		if err != nil {
			t.Fatal(err)
		}
		o := c.object("k", 1<<20)
		failed := make(chan error)
		go func() {
			_, err := o.ReadAt(make([]byte, 10), 0)
			failed <- err
		}()
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want canceled", err)
		}
	})
}

// Blocks around one that is fetched come with it; what lies beyond does not.
func TestReadAround(t *testing.T) {
	const size = 1 << 20
	s := newMemStore()
	data := randomBytes(size, 9)
	s.set("k", data)
	c := newCache(t, s, Options{})
	o := c.object("k", size)
	read := func(off, n int64) int64 {
		t.Helper()
		before := c.Stats().Gets
		p := make([]byte, n)
		if err := o.ReadAround(p, off, 300_000, 500_000); err != nil || !bytes.Equal(p, data[off:off+n]) {
			t.Fatalf("%d bytes at %d: %v, or they differ", n, off, err)
		}
		return c.Stats().Gets - before
	}
	if gets := read(400_000, 20_000); gets != 1 {
		t.Errorf("%d GETs, want 1", gets)
	}
	for _, off := range []int64{300_000, 320_000, 480_000} {
		if gets := read(off, 20_000); gets != 0 {
			t.Errorf("what lies around was not fetched: %d GETs for what begins at %d", gets, off)
		}
	}
	if got := c.Stats().Bytes; got > 200_000+2*ChunkSize {
		t.Errorf("%d bytes were fetched", got)
	}
}
