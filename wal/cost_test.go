package wal

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"testing"
)

// counted counts the reads of a log.
type counted struct {
	io.ReaderAt
	reads, longest int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	c.longest = max(c.longest, len(p))
	return c.ReaderAt.ReadAt(p, off)
}

// A look reads the header, and once more: what is behind the position.
func TestReadsOfALook(t *testing.T) {
	for _, pageSize := range allPageSizes {
		d := newDatabase(t, t.TempDir(), plain(pageSize))
		tr := NewTracker(Position{})
		commits(t, tr, d.log())
		for i, want := range []int{1, 1, 0, 0, 1} {
			if want > 0 {
				d.exec("INSERT INTO t(v) VALUES('x')")
			}
			log, n := &counted{ReaderAt: bytes.NewReader(d.log())}, 0
			if err := tr.Look(log, func(Commit) error { n++; return nil }); err != nil {
				t.Fatal(err)
			}
			if n != want || log.reads != 2 {
				t.Errorf("page size %d, look %d: %d commits in %d reads, want %d in 2", pageSize, i, n, log.reads, want)
			}
		}
		d.close()
	}
}

// A transaction may be larger than memory: it takes 24 bytes a frame and the
// window.
func TestMemoryOfALook(t *testing.T) {
	d := newDatabase(t, t.TempDir(), plain(4096))
	defer d.close()
	d.exec(`WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<8000)
		INSERT INTO t(v) SELECT randomblob(3500) FROM n`)
	f, err := os.Open(d.path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log, largest := &counted{ReaderAt: f}, 0
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err = NewTracker(Position{}).Look(log, func(c Commit) error { largest = max(largest, len(c.Frames)); return nil })
	runtime.ReadMemStats(&after)
	if err != nil || largest < 8000 {
		t.Fatalf("a transaction of %d frames, error %v; want at least 8000", largest, err)
	}
	// All that was ever allocated, the slices that append left behind included.
	if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(2*maxRead+6*24*largest); got > limit || log.longest > maxRead {
		t.Errorf("%d bytes allocated and %d read at once for %d frames, want at most %d and %d", got, log.longest, largest, limit, maxRead)
	}
}

// One allocation in many looks: for the frames, which are given away.
func TestAllocationsOfALook(t *testing.T) {
	tr, look := oneFrameLook(t)
	from := tr.Position()
	if n := testing.AllocsPerRun(1000, func() { tr.pos = from; look() }); n != 0 {
		t.Errorf("%v allocations a look", n)
	}
}

// oneFrameLook returns a Tracker in front of a commit of one frame, and a look at
// it. The log is a file.
func oneFrameLook(t testing.TB) (*Tracker, func()) {
	d := newDatabase(t, t.TempDir(), plain(4096))
	t.Cleanup(d.close)
	d.exec("INSERT INTO t(v) VALUES('x')")
	tr := NewTracker(Position{})
	commits(t, tr, d.log())
	d.exec("UPDATE t SET v='y'")
	f, err := os.Open(d.path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr, func() {
		frames := 0
		err := tr.Look(f, func(c Commit) error { frames += len(c.Frames); return nil })
		if err != nil || frames > 1 {
			t.Fatalf("%d frames, error %v", frames, err)
		}
	}
}

func BenchmarkLook(b *testing.B) {
	b.Run("one frame", func(b *testing.B) {
		tr, look := oneFrameLook(b)
		from := tr.Position()
		b.ReportAllocs()
		for b.Loop() {
			tr.pos = from
			look()
		}
	})
	b.Run("idle", func(b *testing.B) {
		_, look := oneFrameLook(b)
		look()
		b.ReportAllocs()
		for b.Loop() {
			look()
		}
	})
	b.Run("bulk", func(b *testing.B) {
		d := newDatabase(b, b.TempDir(), plain(4096))
		defer d.close()
		d.exec(`WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<8000)
			INSERT INTO t(v) SELECT randomblob(3500) FROM n`)
		log := bytes.NewReader(d.log())
		b.SetBytes(log.Size())
		for b.Loop() {
			if err := NewTracker(Position{}).Look(log, func(Commit) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}
