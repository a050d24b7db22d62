package cache

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestChunksSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s := newMemStore()
	data := randomBytes(1<<20, 1)
	s.set("k", data)
	c, err := New(s, nil, Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	readAt(t, c.object("k", 1<<20), 0, 1<<20, data)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	gets := s.gets.Load()
	c = newCache(t, s, Options{Dir: dir})
	readAt(t, c.object("k", 1<<20), 0, 1<<20, data)
	if s.gets.Load() != gets {
		t.Errorf("%d GETs after the restart, want none", s.gets.Load()-gets)
	}
	// The same key in another store is another object.
	other := c.object("k", 1<<20-1)
	if other.id == c.object("k", 1<<20).id {
		t.Error("objects of different sizes share chunks")
	}
}

// Whatever happens to the chunk file, no wrong byte is served.
func TestDamagedChunkFileIsNeverServed(t *testing.T) {
	const size = 40 * ChunkSize
	dir := t.TempDir()
	path := filepath.Join(dir, slabName)
	data := randomBytes(size, 2)
	rapid.Check(t, func(t *rapid.T) {
		s := newMemStore()
		s.set("k", data)
		open := func() *Cache {
			c, err := New(s, nil, Options{Dir: dir, MaxBytes: 1 << 20, Memory: 1})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		check := func(c *Cache) {
			p := make([]byte, size)
			if _, err := c.object("k", size).ReadAt(p, 0); err != nil || !bytes.Equal(p, data) {
				t.Fatalf("wrong bytes, or %v", err)
			}
		}
		c := open()
		check(c)
		if rapid.Bool().Draw(t, "close first") {
			c.Close()
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "truncate") {
			err = f.Truncate(rapid.Int64Range(0, fi.Size()).Draw(t, "to"))
		} else {
			garbage := rapid.SliceOfN(rapid.Byte(), 1, 3*ChunkSize).Draw(t, "garbage")
			_, err = f.WriteAt(garbage, rapid.Int64Range(0, fi.Size()).Draw(t, "at"))
		}
		if err != nil {
			t.Fatal(err)
		}
		check(c)
		c.Close()
		c = open()
		defer c.Close()
		check(c)
		check(c)
	})
}

// Slots of a set go to other chunks in the order of their last use.
func TestLeastRecentlyUsedIsReplaced(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	s, err := openSlab(t.TempDir(), 1, func() time.Time { now = now.Add(time.Millisecond); return now })
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if s.sets != 1 {
		t.Fatalf("%d sets, want 1", s.sets)
	}
	chunk := func(i int) (chunkID, []byte) {
		data := randomBytes(1000+i, uint64(i))
		var id chunkID
		binary.BigEndian.PutUint64(id[:], uint64(i)+1)
		return id, data
	}
	has := func(i int) bool {
		id, data := chunk(i)
		got := make([]byte, len(data))
		ok := s.get(id, got)
		if ok && !bytes.Equal(got, data) {
			t.Fatalf("chunk %d: wrong bytes", i)
		}
		return ok
	}
	for i := range ways {
		if !s.put(chunk(i)) {
			t.Fatal("not kept")
		}
	}
	for _, i := range []int{0, 3, 5} {
		if !has(i) {
			t.Errorf("chunk %d is not here", i)
		}
	}
	for i := range ways - 3 {
		s.put(chunk(100 + i))
	}
	for _, i := range []int{0, 3, 5} {
		if !has(i) {
			t.Errorf("chunk %d was replaced although others had not been used for longer", i)
		}
	}
	for _, i := range []int{1, 2, 4, 6, 7} {
		if has(i) {
			t.Errorf("chunk %d is still here", i)
		}
	}
}

func TestChunkFileKeepsItsLimit(t *testing.T) {
	const limit = 1 << 20
	dir := t.TempDir()
	s := newMemStore()
	data := randomBytes(4<<20, 3)
	s.set("k", data)
	c := newCache(t, s, Options{Dir: dir, MaxBytes: limit})
	readAt(t, c.object("k", 4<<20), 0, 4<<20, data)
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(dir, slabName), &st); err != nil {
		t.Fatal(err)
	}
	if st.Size > limit || st.Blocks*512 > limit+4096 {
		t.Errorf("the chunk file has %d bytes and takes %d, above the limit of %d", st.Size, st.Blocks*512, limit)
	}
	if st.Blocks*512 < limit*3/4 {
		t.Errorf("the chunk file takes only %d bytes after %d went through it", st.Blocks*512, len(data))
	}
}

// Two caches on one directory see each other's chunks. The limit of the one
// that is there first is in force until nobody uses the file.
func TestSharedDirectory(t *testing.T) {
	dir := t.TempDir()
	s := newMemStore()
	data := randomBytes(2<<20, 4)
	s.set("k", data)
	first := newCache(t, s, Options{Dir: dir, MaxBytes: 8 << 20})
	second, err := New(s, nil, Options{Dir: dir, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if first.slab.sets != second.slab.sets {
		t.Errorf("%d and %d sets in one file", first.slab.sets, second.slab.sets)
	}
	readAt(t, first.object("k", 2<<20), 0, 2<<20, data)
	gets := s.gets.Load()
	readAt(t, second.object("k", 2<<20), 0, 2<<20, data)
	if s.gets.Load() != gets {
		t.Errorf("the second cache did not see what the first had fetched")
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c, err := New(s, nil, Options{Dir: dir, MaxBytes: int64(1+i) << 20})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			readAt(t, c.object("k", 2<<20), int64(i)*1000, 1<<20, data)
		})
	}
	wg.Wait()
}

// A full disk costs requests, and nothing else.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("mounting a small tmpfs:", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	s := newMemStore()
	data := randomBytes(4<<20, 5)
	s.set("k", data)
	c := newCache(t, s, Options{Dir: dir})
	o := c.object("k", 4<<20)
	for off := int64(0); off < 4<<20; off += 50_000 {
		readAt(t, o, off, min(50_000, 4<<20-off), data)
	}
	if got := c.Stats(); got.Bytes > 5<<20 {
		t.Errorf("a scan fetched %d bytes of %d: what was read ahead was lost", got.Bytes, 4<<20)
	}
	if err := c.Stats().DiskError; err == nil {
		t.Error("the full disk is not told of")
	}
	full := filepath.Join(dir, "full")
	fillDisk(t, full)
	again := newCache(t, s, Options{Dir: filepath.Join(dir, "deeper", "still")})
	readAt(t, again.object("k", 4<<20), 12345, 100_000, data)
}

func fillDisk(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
}

func TestUnusableDirectoryIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := New(newMemStore(), nil, Options{Dir: file}); err == nil {
		c.Close()
		t.Error("a file was taken for the cache directory")
	}
}
