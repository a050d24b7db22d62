package generations_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/walback/walback/generations"
)

// overtaken returns a writer that was stopped, and its database; and what
// another one, which has a copy of everything, has done meanwhile: it has gone on,
// merged, and deleted what it merged. So the key of the next segment, which would
// have stopped the first one, can be created again.
func overtaken(t *testing.T, m *memory) (r *rig, w *generations.Writer, d, theirs *database) {
	t.Helper()
	r = mergingRig(t, m, t.TempDir())
	w, d = r.open(), newDatabase(41, 512)
	r.begin(w, d.base(false))
	r.ship(w, d, 30)
	r.merged()

	other := mergingRig(t, m, copyDir(t, r.dir))
	theirs = d.fork(42)
	ow := other.open()
	next := generations.Object{Generation: r.shipper.Status()[0].Generation, Client: client, Kind: generations.SegmentObject, First: d.last.ID + 1}
	other.ship(ow, theirs, 60)
	other.merged()
	m.untilSegments(t, 18)
	if slices.Contains(m.keys(), next.Key()) {
		t.Fatal("the key of the next segment has not been freed")
	}
	other.close()
	return r, w, d, theirs
}

// A writer that was stopped for longer than half the grace finds that another one
// has gone on, though the key of its next segment is free.
func TestFenceAfterMerging(t *testing.T) {
	m := newMemory()
	r, w, d, theirs := overtaken(t, m)
	before := m.segments()
	w.Append(d.commit())
	if err := r.shipper.Flush(t.Context()); err == nil || !errors.Is(w.Err(), generations.ErrFenced) {
		t.Fatalf("flush %v, writer %v", err, w.Err())
	}
	if after := m.segments(); !slices.Equal(before, after) {
		t.Fatalf("the store has %v, and had %v", after, before)
	}
	wantHistory(t, m, nil, theirs.history)
}

// So does one that begins with an old copy of a spool.
func TestOldSpoolAfterMerging(t *testing.T) {
	m := newMemory()
	r, _, d, theirs := overtaken(t, m)
	before := m.segments()
	r.close()
	r = mergingRig(t, m, r.dir)
	w := r.open()
	w.Append(d.commit())
	// It may find that out before it has anything to ship.
	if err := r.shipper.Flush(t.Context()); w.Err() == nil {
		t.Fatalf("flush %v, and the writer goes on", err)
	}
	if after := m.segments(); !slices.Equal(before, after) {
		t.Fatalf("the store has %v, and had %v", after, before)
	}
	wantHistory(t, m, nil, theirs.history)
}

// Even if its Put arrives, as late as cannot be: it puts no other, and no reader
// sees it, whether segments are merged again or not.
func TestPutBehindTheFence(t *testing.T) {
	m := newMemory()
	// The default grace is long enough for it to believe that it is alone.
	r := newRigWith(t, m, t.TempDir(), generations.ShipperOptions{Interval: time.Microsecond, Merge: generations.MergeOptions{Off: true}})
	w, d := r.open(), newDatabase(43, 512)
	r.begin(w, d.base(false))
	r.ship(w, d, 30)
	other := mergingRig(t, m, copyDir(t, r.dir))
	theirs := d.fork(44)
	other.ship(other.open(), theirs, 60)
	other.merged()
	m.untilSegments(t, 18)
	other.close()
	before := m.segments()
	r.ship(w, d, 1)
	if after := m.segments(); len(after) != len(before)+1 {
		t.Fatalf("the store has %v, and had %v", after, before)
	}
	wantHistory(t, m, nil, theirs.history)
	compact(t, m)
	wantHistory(t, m, nil, theirs.history)
	if n := len(m.segments()); n != 3 { // merged, the newest, and the one that is nobody's
		t.Fatalf("the segments are %v", m.segments())
	}
}
