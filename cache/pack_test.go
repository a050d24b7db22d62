package cache

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

const pageSize = 4096

// history is a little database in a store: a snapshot of pages pages as of
// transaction 1 and a segment with one transaction, which changes page 2.
type history struct {
	store *memStore
	plan  generations.Plan // of transaction 2
	pages map[wal.Pgno][]byte
}

// compressiblePage returns a page, half of it random, that depends on p and id.
func compressiblePage(p wal.Pgno, id wal.TXID) []byte {
	return append(randomBytes(pageSize/2, uint64(p)*7+uint64(id)), make([]byte, pageSize/2)...)
}

func newHistory(t testing.TB, pages wal.Pgno) *history {
	t.Helper()
	h := &history{store: newMemStore(), pages: make(map[wal.Pgno][]byte)}
	gen := generations.NewID(1_700_000_000_000_000, 0)
	object := func(kind generations.ObjectKind, first wal.TXID) generations.Object {
		return generations.Object{Client: "c1", Generation: gen, Kind: kind, First: first}
	}
	image, segment := object(generations.SnapshotObject, 1), object(generations.SegmentObject, 2)

	var sum wal.Checksum
	var ids []wal.Pgno
	for p := wal.Pgno(1); p <= pages; p++ {
		h.pages[p] = compressiblePage(p, 1)
		sum ^= wal.PageSum(p, h.pages[p])
		ids = append(ids, p)
	}
	first := wal.TxnInfo{ID: 1, Time: 1_700_000_000_000_000, Size: pages, Pages: pages, Checksum: sum}
	imageSize := h.put(t, image, pack.Snapshot, first, ids)
	sum ^= wal.PageSum(2, h.pages[2])
	h.pages[2] = compressiblePage(2, 2)
	sum ^= wal.PageSum(2, h.pages[2])
	second := wal.TxnInfo{ID: 2, Time: 1_700_000_001_000_000, Size: pages, Pages: 1, Checksum: sum}
	segmentSize := h.put(t, segment, pack.Segment, second, []wal.Pgno{2})
	h.plan = generations.Plan{
		Client: "c1", File: "db.sqlite", Generation: gen, Txn: second, PageSize: pageSize,
		Objects: []generations.PlanObject{{Object: segment, Size: segmentSize}, {Object: image, Size: imageSize}},
	}
	return h
}

func (h *history) put(t testing.TB, o generations.Object, kind pack.Kind, txn wal.TxnInfo, ids []wal.Pgno) int64 {
	t.Helper()
	var b bytes.Buffer
	w := pack.NewWriter(&b, kind, pageSize, o.Place(), pack.WriterOptions{})
	for _, p := range ids {
		if err := w.Add(p, txn.ID, h.pages[p]); err != nil {
			t.Fatal(err)
		}
	}
	n, err := w.Finish([]wal.TxnInfo{txn}, wal.Mark{Txn: txn, PageSize: pageSize})
	if err != nil {
		t.Fatal(err)
	}
	h.store.set(o.Key(), b.Bytes())
	return n
}

func (h *history) check(t *testing.T, c *Cache, pages ...wal.Pgno) {
	t.Helper()
	v, err := c.View(t.Context(), h.plan)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	got := make([]byte, pageSize)
	for _, p := range pages {
		if err := v.ReadPage(p, got); err != nil {
			t.Fatalf("page %d: %v", p, err)
		}
		if !bytes.Equal(got, h.pages[p]) {
			t.Fatalf("page %d: wrong bytes", p)
		}
	}
}

func TestViewReadsEveryPage(t *testing.T) {
	h := newHistory(t, 500)
	c := newCache(t, h.store, Options{Dir: t.TempDir()})
	for p := range h.pages {
		h.check(t, c, p)
	}
	v, err := c.View(t.Context(), h.plan)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.WriteTo(new(bytes.Buffer)); err != nil { // verifies the checksum
		t.Error(err)
	}
}

// Opening reads the tails, a cold page its group; what is warm costs nothing.
func TestColdPage(t *testing.T) {
	h := newHistory(t, 3_000)
	dir := t.TempDir()
	c := newCache(t, h.store, Options{Dir: dir})
	h.check(t, c, 2_345)
	cold := c.Stats()
	stored := h.plan.Objects[0].Size + h.plan.Objects[1].Size
	t.Logf("%d bytes in %d GETs for a cold page of %d stored", cold.Bytes, cold.Gets, stored)
	if cold.Gets > 6 || cold.Bytes > stored/50 || cold.Bytes > 256<<10 {
		t.Errorf("%d bytes in %d GETs for a cold page of %d stored", cold.Bytes, cold.Gets, stored)
	}
	h.check(t, c, 1_111)
	warm := c.Stats()
	if gets, n := warm.Gets-cold.Gets, warm.Bytes-cold.Bytes; gets > 2 || n > 128<<10 {
		t.Errorf("%d bytes in %d GETs for a page of an open view", n, gets)
	}
	h.check(t, c, 1_111, 2_345)
	if now := c.Stats(); now.Gets != warm.Gets {
		t.Errorf("%d GETs for pages that are decoded", now.Gets-warm.Gets)
	}
	again := newCache(t, h.store, Options{Dir: dir})
	h.check(t, again, 1_111, 2_345)
	if got := again.Stats().Gets; got != 0 {
		t.Errorf("%d GETs after a restart", got)
	}
}

func TestConcurrentColdReaders(t *testing.T) {
	h := newHistory(t, 1_500)
	one := newCache(t, h.store, Options{})
	h.check(t, one, 1_000)
	want := one.Stats().Gets
	many := newCache(t, h.store, Options{})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() { h.check(t, many, 1_000) })
	}
	wg.Wait()
	if got := many.Stats().Gets; got != want {
		t.Errorf("%d GETs for 64 readers of one page, %d for one", got, want)
	}
}

// Damage in what was fetched is fetched again before it is believed; damage in
// the store is an error that names the object, never a page.
func TestDamage(t *testing.T) {
	h := newHistory(t, 2_000)
	for _, name := range []string{"memory", "disk"} {
		t.Run(name, func(t *testing.T) {
			o := Options{}
			if name == "disk" {
				o.Dir = t.TempDir()
			}
			c := newCache(t, h.store, o)
			h.check(t, c, 1)
			// One answer is damaged, the next one is not.
			damage := func(times int64) func([]byte) []byte {
				var answers atomic.Int64
				return func(b []byte) []byte {
					if answers.Add(1) <= times {
						for i := range b {
							b[i] ^= 0x10
						}
					}
					return b
				}
			}
			h.store.setAlter(damage(1))
			h.check(t, c, 1_000)

			h.store.setAlter(damage(1 << 30))
			v, err := c.View(t.Context(), h.plan)
			if err != nil {
				t.Fatal(err)
			}
			err = v.ReadPage(1_500, make([]byte, pageSize))
			if !errors.Is(err, pack.ErrCorrupt) || !strings.Contains(err.Error(), "snapshot/0000000001.snap") {
				t.Errorf("a damaged group: got %v, want corruption of the snapshot", err)
			}
			h.store.setAlter(nil)
			h.check(t, c, 1_500)

			fresh := newCache(t, h.store, Options{})
			h.store.setAlter(damage(1 << 30))
			if _, err := fresh.View(t.Context(), h.plan); !errors.Is(err, pack.ErrCorrupt) {
				t.Errorf("a damaged tail: got %v, want corruption", err)
			}
			fresh = newCache(t, h.store, Options{})
			h.store.setAlter(damage(1))
			h.check(t, fresh, 1)
			h.store.setAlter(nil)
		})
	}
}

func TestStoreFailureIsNotCorruption(t *testing.T) {
	h := newHistory(t, 100)
	c := newCache(t, h.store, Options{})
	h.store.setBefore(func(context.Context) error { return generations.ErrDenied })
	if _, err := c.View(t.Context(), h.plan); !errors.Is(err, generations.ErrDenied) || errors.Is(err, pack.ErrCorrupt) {
		t.Errorf("got %v, want the store's error", err)
	}
	h.store.setBefore(nil)
	h.store.setAlter(func(b []byte) []byte { return b[:(len(b)+1)/2] })
	h.check(t, c, 50) // answers that are cut go on
	h.store.setAlter(nil)
	if err := h.store.Delete(t.Context(), h.plan.Objects[0].Key()); err != nil {
		t.Fatal(err)
	}
	fresh := newCache(t, h.store, Options{})
	if _, err := fresh.View(t.Context(), h.plan); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an object that is gone: got %v, want fs.ErrNotExist", err)
	}
}

// Whoever gives up waiting does not make the others fail.
func TestOpeningOutlivesWhoAskedFirst(t *testing.T) {
	h := newHistory(t, 100)
	asked, release := make(chan struct{}, 100), make(chan struct{})
	h.store.setBefore(func(context.Context) error {
		asked <- struct{}{}
		<-release
		return nil
	})
	c := newCache(t, h.store, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	first, second := make(chan error), make(chan error)
	go func() {
		_, err := c.OpenPack(ctx, h.plan.Objects[1])
		first <- err
	}()
	<-asked
	go func() {
		_, err := c.OpenPack(t.Context(), h.plan.Objects[1])
		second <- err
	}()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	close(release)
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
}

// A local pack stays readable when its file is removed, and the file is closed
// when nobody uses the pack any more.
func TestLocalPacks(t *testing.T) {
	h := newHistory(t, 300)
	dir := t.TempDir()
	sp, err := generations.OpenSpool(dir, h.store.String())
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	c, err := New(newMemStore(), sp, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.localMost = 2
	var files []string
	for i := range h.plan.Objects {
		o := &h.plan.Objects[i]
		o.Local = true
		path := filepath.Join(dir, "objects", filepath.FromSlash(o.Key()))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, h.store.objects[o.Key()], 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	more := h.plan.Objects[0]
	more.First++ // of another name
	v, err := c.View(t.Context(), h.plan)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, pageSize)
	if err := v.ReadPage(200, got); err != nil || !bytes.Equal(got, h.pages[200]) {
		t.Errorf("a removed piece: %v", err)
	}
	if n := openBelow(t, dir, "objects"); n != len(files) {
		t.Errorf("%d of %d files are open", n, len(files))
	}
	if _, err := c.OpenPack(t.Context(), more); !errors.Is(err, syscall.ENFILE) {
		t.Errorf("one file more than may be open: got %v, want ENFILE", err)
	}
	runtime.KeepAlive(v)
	v = nil
	for deadline := time.Now().Add(5 * time.Second); openBelow(t, dir, "objects") > 0 || c.localOpen.Load() > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the files of packs that nobody uses stay open")
		}
		runtime.GC()
	}
	if _, err := c.View(t.Context(), h.plan); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	// The view fails with the first piece, while another is still being looked for.
	for deadline := time.Now().Add(5 * time.Second); c.localOpen.Load() != 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d files count as open", c.localOpen.Load())
		}
	}
}

// openBelow counts this process's descriptors of files below dir/sub.
func openBelow(t *testing.T, dir, sub string) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, filepath.Join(dir, sub)) {
			n++
		}
	}
	return n
}
