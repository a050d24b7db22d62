package wal

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"
)

// index reads the wal-index of d.
func (d *database) index() IndexHeader {
	d.t.Helper()
	h, ok := ParseIndexHeader(readFile(d.t, d.path+"-shm"))
	if !ok {
		d.t.Fatal("the wal-index has no header")
	}
	return h
}

// The index says the same as the log, after every commit and restart.
func TestIndexAgreesWithLog(t *testing.T) {
	d := newDatabase(t, t.TempDir(), settings{pageSize: 1024})
	defer d.close()
	for i := range 30 {
		d.exec("INSERT INTO t(v) VALUES (randomblob(?))", int64(i*200))
		if i%10 == 9 {
			d.checkpoint("RESTART")
		}
		tracker, changed := NewTracker(Position{}), d.index().Change
		if err := tracker.Look(bytes.NewReader(d.log()), func(Commit) error { return nil }); err != nil {
			t.Fatal(err)
		}
		h, pos := d.index(), tracker.Position()
		if i%10 == 9 {
			continue // the log is copied, and its next header not written yet
		}
		want := IndexHeader{Change: changed, Frames: pos.Frames, Salt1: pos.Salt1, Salt2: pos.Salt2, Sum: pos.Sum}
		if h != want {
			t.Fatalf("commit %d: the index says %+v, the log %+v", i, h, want)
		}
	}
}

// LookTo finds what the index covers and no more.
func TestLookToTheIndex(t *testing.T) {
	d := newDatabase(t, t.TempDir(), settings{pageSize: 512})
	defer d.close()
	var indexes []IndexHeader
	for i := range 20 {
		d.exec("INSERT INTO t(v) VALUES (randomblob(?))", int64(i*100))
		indexes = append(indexes, d.index())
	}
	log := bytes.NewReader(d.log())
	tracker := NewTracker(Position{})
	for i := 0; i < len(indexes); i += 1 + rand.IntN(3) {
		before := tracker.Position()
		if err := tracker.LookTo(log, indexes[i], func(c Commit) error {
			if c.End.Frames > indexes[i].Frames {
				t.Errorf("a commit up to frame %d, of %d", c.End.Frames, indexes[i].Frames)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if pos := tracker.Position(); pos.Frames != indexes[i].Frames || pos.Sum != indexes[i].Sum {
			t.Fatalf("looked from frame %d to %d, want %d", before.Frames, pos.Frames, indexes[i].Frames)
		}
	}
	other := indexes[len(indexes)-1]
	if err := tracker.LookTo(log, other, func(Commit) error { return nil }); err != nil {
		t.Fatal(err)
	}
	other.Sum[0]++
	if err := tracker.LookTo(log, other, func(Commit) error { return nil }); !errors.Is(err, ErrMissed) {
		t.Errorf("another last frame: %v", err)
	}
}

func TestParseIndexHeaderOfDamage(t *testing.T) {
	d := newDatabase(t, t.TempDir(), settings{pageSize: 512})
	defer d.close()
	good, err := os.ReadFile(d.path + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	for i := range IndexHeaderSize {
		bad := bytes.Clone(good)
		bad[i] ^= 4
		if _, ok := ParseIndexHeader(bad); ok {
			t.Errorf("byte %d changed, and the header is still good", i)
		}
		if i < indexCopy {
			bad[indexCopy+i] ^= 4
			if _, ok := ParseIndexHeader(bad); ok {
				t.Errorf("byte %d of both copies changed, and the header is still good", i)
			}
		}
	}
	if _, ok := ParseIndexHeader(good[:IndexHeaderSize-1]); ok {
		t.Error("a short header is good")
	}
}
