// Package storetest is for tests of what keeps or uses objects: the one suite
// that every generations.Store passes, a real S3 server, and wrappers that count
// and that make requests fail.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/generations"
)

// Run tests that the stores open returns keep what generations.Store promises.
// Each call of open returns another, empty store.
func Run(t *testing.T, open func(t *testing.T) generations.Store) {
	for _, part := range []struct {
		name string
		test func(*testing.T, generations.Store)
	}{
		{"PutGet", testPutGet},
		{"OneWinner", testOneWinner},
		{"Atomic", testAtomic},
		{"FailingSource", testFailingSource},
		{"Large", testLarge},
		{"Ranges", testRanges},
		{"Missing", testMissing},
		{"Delete", testDelete},
		{"BadKeys", testBadKeys},
		{"OddKeys", testOddKeys},
		{"Order", testOrder},
		{"ManyKeys", testManyKeys},
		{"Cancelled", testCancelled},
		{"Concurrent", testConcurrent},
		{"URL", testURL},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, open(t)) })
	}
}

// Body makes data into what Put takes.
func Body(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}

// noise is n bytes, the same for the same seed.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

func put(t *testing.T, s generations.Store, key string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), key, Body(data)); err != nil {
		t.Fatalf("put: %v", err)
	}
}

// read gets a range and the object's size.
func read(ctx context.Context, s generations.Store, key string, off, n int64) ([]byte, int64, error) {
	b, err := s.Get(ctx, key, off, n)
	if err != nil {
		return nil, 0, err
	}
	data, err := io.ReadAll(b)
	return data, b.ObjectSize, errors.Join(err, b.Close())
}

func wantObject(t *testing.T, s generations.Store, key string, want []byte) {
	t.Helper()
	got, size, err := read(t.Context(), s, key, 0, -1)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	if !bytes.Equal(got, want) || size != int64(len(want)) {
		t.Fatalf("get %q: got %d bytes of %d that differ from the %d put", key, len(got), size, len(want))
	}
}

// wantError checks the identity of err, and that it is one line.
func wantError(t *testing.T, err error, kinds ...error) {
	t.Helper()
	for _, kind := range kinds {
		if !errors.Is(err, kind) {
			t.Fatalf("got error %v, want one that matches %q", err, kind)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Fatalf("error of more than one line: %v", err)
	}
}

func list(ctx context.Context, s generations.Store, prefix, after string) ([]generations.Entry, error) {
	var all []generations.Entry
	for e, err := range s.List(ctx, prefix, after) {
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

func dirs(ctx context.Context, s generations.Store, prefix string) ([]string, error) {
	var all []string
	for d, err := range s.Dirs(ctx, prefix) {
		if err != nil {
			return all, err
		}
		all = append(all, d)
	}
	return all, nil
}

func wantKeys(t *testing.T, s generations.Store, prefix, after string, want ...string) {
	t.Helper()
	entries, err := list(t.Context(), s, prefix, after)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Key)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("list %q after %q:\n got %q\nwant %q", prefix, after, got, want)
	}
}

func testPutGet(t *testing.T, s generations.Store) {
	for n, size := range []int{0, 1, 4096, 300_000} {
		key := fmt.Sprintf("c1/generations/%d/wal/0000000001.wal", n)
		data := noise(uint64(n), size)
		body := Body(data)
		if err := s.Put(t.Context(), key, body); err != nil {
			t.Fatal(err)
		}
		wantObject(t, s, key, data)

		err := s.Put(t.Context(), key, Body(noise(99, size+1)))
		wantError(t, err, generations.ErrExists, fs.ErrExist)
		wantObject(t, s, key, data)

		// A body can be put again, and its own offset is not the store's.
		if at, err := body.Seek(0, io.SeekCurrent); at != 0 || err != nil {
			t.Fatalf("Put left the body at %d, %v", at, err)
		}
		if _, err := body.Seek(int64(size/2), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if err := s.Put(t.Context(), key+"2", body); err != nil {
			t.Fatal(err)
		}
		wantObject(t, s, key+"2", data)
	}
}

func testOneWinner(t *testing.T, s generations.Store) {
	const writers = 16
	for round := range 3 {
		key := fmt.Sprintf("race/%d", round)
		var g errgroup.Group
		results := make([]error, writers)
		begin := make(chan struct{})
		for i := range writers {
			g.Go(func() error {
				<-begin
				results[i] = s.Put(t.Context(), key, Body(noise(uint64(i), 10_000+i)))
				return nil
			})
		}
		close(begin)
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		winner := -1
		for i, err := range results {
			switch {
			case err != nil:
				wantError(t, err, generations.ErrExists)
			case winner >= 0:
				t.Fatalf("both %d and %d won", winner, i)
			default:
				winner = i
			}
		}
		if winner < 0 {
			t.Fatal("nobody won")
		}
		wantObject(t, s, key, noise(uint64(winner), 10_000+winner))
		wantKeys(t, s, "race/", fmt.Sprintf("race/%d", round-1), key)
	}
}

// gate is an io.ReaderAt that tells when its second half is read and waits.
type gate struct {
	data    []byte
	reached chan struct{} // closed then
	open    chan struct{}
	err     error // of the second half
	once    func()
}

func (g *gate) ReadAt(p []byte, off int64) (int, error) {
	half := int64(len(g.data) / 2)
	if off < half {
		return copy(p[:min(int64(len(p)), half-off)], g.data[off:half]), nil
	}
	if g.reached != nil {
		g.once()
		<-g.open
	}
	if g.err != nil {
		return 0, g.err
	}
	return bytes.NewReader(g.data).ReadAt(p, off)
}

func testAtomic(t *testing.T, s generations.Store) {
	src := &gate{data: noise(1, 1<<20), reached: make(chan struct{}), open: make(chan struct{})}
	closed := false
	src.once = func() {
		if !closed {
			close(src.reached)
			closed = true
		}
	}
	done := make(chan error, 1)
	go func() {
		done <- s.Put(t.Context(), "slow/object", io.NewSectionReader(src, 0, int64(len(src.data))))
	}()
	<-src.reached
	_, _, err := read(t.Context(), s, "slow/object", 0, -1)
	wantError(t, err, generations.ErrNotFound)
	wantKeys(t, s, "", "")
	if d, err := dirs(t.Context(), s, ""); err != nil || len(d) > 0 {
		t.Errorf("Dirs tells of %q, %v, before there is an object", d, err)
	}
	close(src.open)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, "slow/object", src.data)
}

func testFailingSource(t *testing.T, s generations.Store) {
	broken := errors.New("the disk is broken")
	src := &gate{data: noise(1, 1<<20), err: broken}
	err := s.Put(t.Context(), "k", io.NewSectionReader(src, 0, int64(len(src.data))))
	wantError(t, err, broken)
	// A body that is shorter than it says is not what was to be stored either.
	if err := s.Put(t.Context(), "k", io.NewSectionReader(bytes.NewReader(make([]byte, 10)), 0, 11)); err == nil {
		t.Error("a body that ends early was put")
	}
	wantKeys(t, s, "", "")
	src.err = nil
	if err := s.Put(t.Context(), "k", io.NewSectionReader(src, 0, int64(len(src.data)))); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, "k", src.data)
}

func testLarge(t *testing.T, s generations.Store) {
	const size = 20<<20 + 12345
	data := noise(7, size)
	put(t, s, "large/object", data)
	wantObject(t, s, "large/object", data)
	wantError(t, s.Put(t.Context(), "large/object", Body(data[:size-1])), generations.ErrExists)
	for _, off := range []int64{16<<20 - 5, 16 << 20, size - 10} {
		got, n, err := read(t.Context(), s, "large/object", off, 20)
		if err != nil || n != size || !bytes.Equal(got, data[off:min(off+20, size)]) {
			t.Errorf("20 bytes at %d: got %d of %d, %v", off, len(got), n, err)
		}
	}
	entries, err := list(t.Context(), s, "large/", "")
	if err != nil || len(entries) != 1 || entries[0].Key != "large/object" || entries[0].Size != size {
		t.Fatalf("listed as %v, %v", entries, err)
	}
	// Its clock may differ from ours, and it need not have one.
	if put := entries[0].Put; !put.IsZero() && time.Since(put).Abs() > time.Hour {
		t.Errorf("listed as put at %s", put)
	}
}

func testURL(t *testing.T, s generations.Store) {
	u, err := generations.ParseURL(s.String())
	if err != nil {
		t.Fatal(err)
	}
	if u.String() != s.String() {
		t.Errorf("the store calls itself %s, which reads as %s", s, u)
	}
}
