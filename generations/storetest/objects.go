package storetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/generations"
)

func testRanges(t *testing.T, s generations.Store) {
	for _, size := range []int64{0, 1, 1000} {
		key := fmt.Sprintf("object-of-%d", size)
		data := noise(3, int(size))
		put(t, s, key, data)
		for _, off := range []int64{0, 1, 500, size - 1, size, size + 1, math.MaxInt64 - 1} {
			for _, n := range []int64{-1, 0, 1, size - 1, size, size + 1, math.MaxInt64} {
				if off >= 0 {
					wantRange(t, s, key, data, off, n)
				}
			}
		}
		for _, off := range []int64{-1, -2, -size, -size - 1, -1 << 40} {
			if off < 0 {
				wantRange(t, s, key, data, off, -1)
				_, err := s.Get(t.Context(), key, off, 1)
				wantError(t, err, fs.ErrInvalid)
			}
		}
	}
}

// wantRange gets a range and compares it with what Store.Get says of data.
func wantRange(t *testing.T, s generations.Store, key string, data []byte, off, n int64) {
	t.Helper()
	size := int64(len(data))
	first := min(off, size)
	if off < 0 {
		first = max(0, size+off)
	}
	last := size
	if n >= 0 && n < size-first {
		last = first + n
	}
	got, whole, err := read(t.Context(), s, key, off, n)
	if err != nil {
		t.Fatalf("%d bytes at %d of %d: %v", n, off, size, err)
	}
	if !bytes.Equal(got, data[first:last]) || whole != size {
		t.Fatalf("%d bytes at %d of %d: got %d of %d", n, off, size, len(got), whole)
	}
}

func testMissing(t *testing.T, s generations.Store) {
	ctx := t.Context()
	put(t, s, "there/is/one", []byte("x"))
	for _, key := range []string{"nothing", "no/such/thing", "there", "there/is", "there/is/one/more", "there/is/on", "there/is/one2"} {
		for _, r := range [][2]int64{{0, -1}, {0, 0}, {5, 10}, {-10, -1}} {
			_, _, err := read(ctx, s, key, r[0], r[1])
			wantError(t, err, generations.ErrNotFound, fs.ErrNotExist)
		}
		if err := s.Delete(ctx, key); err != nil {
			t.Errorf("delete of a missing key: %v", err)
		}
	}
	wantKeys(t, s, "no/such/", "")
	wantKeys(t, s, "there/is/one/", "")
	for _, prefix := range []string{"no/such/", "there/is/", "there/is/one/"} {
		if d, err := dirs(ctx, s, prefix); err != nil || len(d) > 0 {
			t.Errorf("directories below %q: %q, %v", prefix, d, err)
		}
	}
	wantObject(t, s, "there/is/one", []byte("x"))
}

func testDelete(t *testing.T, s generations.Store) {
	ctx := t.Context()
	for round := range 2 {
		data := noise(uint64(round), 100)
		put(t, s, "c/gone/object", data)
		put(t, s, "c/stays", data)
		for range 2 {
			if err := s.Delete(ctx, "c/gone/object"); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := read(ctx, s, "c/gone/object", 0, -1)
		wantError(t, err, generations.ErrNotFound)
		wantKeys(t, s, "", "", "c/stays")
		if d, err := dirs(ctx, s, "c/"); err != nil || len(d) > 0 {
			t.Errorf("directories left: %q, %v", d, err)
		}
		if err := s.Delete(ctx, "c/stays"); err != nil {
			t.Fatal(err)
		}
	}
	wantKeys(t, s, "", "")
}

func testBadKeys(t *testing.T, s generations.Store) {
	ctx := t.Context()
	for _, key := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "../a", "a/..", "\xff", "a/\xc3("} {
		wantError(t, s.Put(ctx, key, Body([]byte("x"))), fs.ErrInvalid)
		_, err := s.Get(ctx, key, 0, -1)
		wantError(t, err, fs.ErrInvalid)
		wantError(t, s.Delete(ctx, key), fs.ErrInvalid)
	}
	for _, prefix := range []string{"a", "/", "a//", "../", "\xff/"} {
		_, err := list(ctx, s, prefix, "")
		wantError(t, err, fs.ErrInvalid)
		_, err = list(ctx, s, prefix, "zzz")
		wantError(t, err, fs.ErrInvalid)
		_, err = dirs(ctx, s, prefix)
		wantError(t, err, fs.ErrInvalid)
	}
	wantKeys(t, s, "", "")
}

func testCancelled(t *testing.T, s generations.Store) {
	data := noise(5, 1<<20)
	put(t, s, "dir/object", data)
	ctx, cancel := context.WithCancel(t.Context())
	b, err := s.Get(ctx, "dir/object", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := io.ReadFull(b, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = io.Copy(io.Discard, b)
	wantError(t, err, context.Canceled)

	wantError(t, s.Put(ctx, "dir/new", Body(data)), context.Canceled)
	_, err = s.Get(ctx, "dir/object", 0, -1)
	wantError(t, err, context.Canceled)
	wantError(t, s.Delete(ctx, "dir/object"), context.Canceled)
	_, err = list(ctx, s, "", "")
	wantError(t, err, context.Canceled)
	_, err = dirs(ctx, s, "")
	wantError(t, err, context.Canceled)
	wantKeys(t, s, "", "", "dir/object")
}

// testConcurrent lets writers, readers and deleters work side by side. Something
// always stays next to what they delete: versitygw 1.8.0 can lose an object that
// is put while the last other one of its directory is deleted.
func testConcurrent(t *testing.T, s generations.Store) {
	const workers, rounds = 8, 12
	put(t, s, "shared/0/stays", nil)
	put(t, s, "shared/1/stays", nil)
	g, ctx := errgroup.WithContext(t.Context())
	for i := range workers {
		g.Go(func() error {
			for round := range rounds {
				key := fmt.Sprintf("shared/%d/worker-%d", round%2, i)
				data := noise(uint64(i), 2000+round)
				if err := s.Put(ctx, key, Body(data)); err != nil {
					return err
				}
				got, _, err := read(ctx, s, key, 0, -1)
				if err != nil {
					return err
				}
				if !bytes.Equal(got, data) {
					return fmt.Errorf("%s reads back as %d other bytes", key, len(got))
				}
				mine := false
				for e, err := range s.List(ctx, "shared/", "") {
					if err != nil {
						return err
					}
					mine = mine || e.Key == key && e.Size == int64(len(data))
				}
				if !mine {
					return fmt.Errorf("%s is not listed", key)
				}
				if err := s.Delete(ctx, key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, s, "", "", "shared/0/stays", "shared/1/stays")
}
