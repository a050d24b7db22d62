package generations_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// snapshots returns what is sent to whenever a snapshot gets into the store.
func (m *memory) snapshots() <-chan struct{} {
	made := make(chan struct{}, 8)
	m.hook(nil, func(c call) error {
		if isSnapshot(c) {
			made <- struct{}{}
		}
		return nil
	})
	return made
}

func isSnapshot(c call) bool { return c.op == "put" && strings.HasSuffix(c.key, ".snap") }

// list returns what the store has of the client's generations.
func (m *memory) list(t *testing.T) []generations.GenerationInfo {
	t.Helper()
	tl, err := generations.OpenTimeline(t.Context(), client, m, nil, packs{m, nil})
	if err != nil {
		t.Fatal(err)
	}
	gens, err := tl.Generations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return gens
}

// Behind a final segment, a map is made of it and of what there was, and views
// begin with it.
func TestMapOfFinalSegments(t *testing.T) {
	m := newMemory()
	made := m.snapshots()
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(60, wal.MaxPageSize)
	r.begin(w, d.base(true))
	wait(t, made)
	d.noisy = true
	for i := range 2 {
		w.Append(d.write(allPages(d, 520+i))) // more than 32 MiB
		r.flush()
		wait(t, made)
	}
	w.Append(d.write([]int{0, 7}))
	r.flush()
	tl, err := generations.OpenTimeline(t.Context(), client, m, nil, packs{m, nil})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := tl.At(t.Context(), generations.Latest(), d.last.Time)
	if err != nil || len(plan.Objects) != 2 || plan.Objects[1].First != 3 || plan.Objects[1].Size > 4<<20 {
		t.Fatalf("plan %v, %v", plan, err)
	}
	snaps, err := tl.Snapshots(t.Context(), plan.Generation)
	if err != nil || len(snaps) != 3 || snaps[1].Info.Kind != pack.Map || snaps[2].Info.Kind != pack.Map {
		t.Fatalf("snapshots %+v, %v", snaps, err)
	}
	wantHistory(t, m, nil, d.history)

	// A compaction makes those that are missing, and no others.
	r.close()
	for _, missing := range []int{2, 1, 0} {
		for _, s := range snaps[3-missing:] {
			if err := m.Delete(t.Context(), s.Key()); err != nil {
				t.Fatal(err)
			}
		}
		c := generations.NewCompaction(m, 0, packs{m, nil})
		if done, err := c.Merge(t.Context(), client); err != nil || len(done) != 1 || done[0].Maps != missing {
			t.Fatalf("compacted %+v, %v; want %d maps", done, err, missing)
		}
	}
	wantNewest(t, m, d)
}

// What is final and has no map yet is known after a restart: a map that could not
// be made is made as soon as something is shipped again.
func TestMapAfterRestart(t *testing.T) {
	m := newMemory()
	dir := t.TempDir()
	r := newRig(t, m, dir, time.Microsecond)
	w, d := r.open(), newDatabase(61, wal.MaxPageSize)
	r.begin(w, d.base(true))
	r.flush()
	tried := make(chan struct{}, 8)
	m.hook(func(c call) error {
		if isSnapshot(c) {
			tried <- struct{}{}
			return errDown
		}
		return nil
	}, nil)
	d.noisy = true
	w.Append(d.write(allPages(d, 520))) // more than 32 MiB
	r.flush()
	wait(t, tried)
	r.close()

	made := m.snapshots()
	r = newRig(t, m, dir, time.Microsecond)
	w = r.open()
	w.Append(d.write([]int{3}))
	r.flush()
	wait(t, made)
	if plan, err := m.plan(t, d.last.Time); err != nil || len(plan.Objects) != 2 || plan.Objects[1].First != 2 {
		t.Errorf("plan %v, %v", plan, err)
	}
	wantHistory(t, m, nil, d.history)
}

// allPages makes d have n pages, and names them all.
func allPages(d *database, n int) []int {
	for len(d.pages) < n {
		d.pages = append(d.pages, nil)
	}
	changed := make([]int, n)
	for i := range changed {
		changed[i] = i
	}
	return changed
}

// plan returns that of the newest transaction.
func (m *memory) plan(t *testing.T, now wal.Time) (generations.Plan, error) {
	t.Helper()
	tl, err := generations.OpenTimeline(t.Context(), client, m, nil, packs{m, nil})
	if err != nil {
		t.Fatal(err)
	}
	return tl.At(t.Context(), generations.Latest(), now)
}

// forkOften makes a database whose newest generation lies over two others, with
// some ten segments in each.
func forkOften(r *rig, d *database) *generations.Writer {
	w := r.open()
	for len(d.pages) < 30 {
		d.pages = append(d.pages, d.page())
	}
	r.begin(w, d.base(false))
	for range 2 {
		for range 10 {
			w.Append(d.commit())
			r.flush()
		}
		r.fork(w, d, d.last.ID-2)
	}
	return w
}

// A fork gets a map of its own when what lies under it are many segments; what
// is needed of them is copied, since they may be merged.
func TestMapOfFork(t *testing.T) {
	m := newMemory()
	made := m.snapshots()
	r := newRigWith(t, m, t.TempDir(), generations.ShipperOptions{
		Interval: time.Microsecond, Merge: generations.MergeOptions{Off: true},
	})
	d := newDatabase(92, 512)
	w := forkOften(r, d)
	wait(t, made)
	w.Append(d.commit())
	r.flush()
	wait(t, made)
	w.Append(d.commit())
	r.flush()
	gens := m.list(t)
	if len(gens) != 3 || gens[0].Snapshots != 1 || gens[1].Snapshots != 0 || gens[2].Snapshots != 1 {
		t.Fatalf("generations %+v", gens)
	}
	wantHistory(t, m, nil, d.history)
	for _, e := range m.keys() {
		if o, err := generations.ParseKey(e); err == nil && o.Kind == generations.SegmentObject && o.Generation != gens[2].ID {
			if err := m.Delete(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantNewest(t, m, d)
}

// A map is made at the pace of a merge, by default for a quarter of the time. Here,
// work is to read pages.
func TestMapsRest(t *testing.T) {
	m := newMemory()
	made := m.snapshots()
	slow := &slowPacks{store: m}
	r := newRigWith(t, m, t.TempDir(), generations.ShipperOptions{
		Interval: time.Microsecond, Merge: generations.MergeOptions{Off: true}, Packs: slow,
	})
	d := newDatabase(94, 16<<10)
	d.noisy = true
	w := forkOften(r, d)
	wait(t, made)
	began := time.Now()
	w.Append(d.commit())
	wait(t, made)
	took, work := time.Since(began), time.Duration(slow.reads.Load())*slowRead
	if work < 4*slowRead || took < 4*work {
		t.Errorf("a map took %s, of which it worked for %s", took, work)
	}
}

// slowPacks opens objects whose pages take their time to be read, and counts that.
type slowPacks struct {
	store *memory
	reads atomic.Int64
}

const slowRead = 10 * time.Millisecond

func (p *slowPacks) OpenPack(_ context.Context, o generations.PlanObject) (*pack.Reader, error) {
	return pack.Open(slowObject{wholeObject{p.store, o.Key(), o.Size}, &p.reads}, o.Size, o.Place(), pack.ReaderOptions{})
}

type slowObject struct {
	wholeObject
	reads *atomic.Int64
}

func (o slowObject) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) < o.size { // not the end, which opening reads
		time.Sleep(slowRead)
		o.reads.Add(1)
	}
	return o.wholeObject.ReadAt(b, off)
}

// wantNewest compares the newest transaction with what is stored.
func wantNewest(t *testing.T, m *memory, d *database) {
	t.Helper()
	tl, err := generations.OpenTimeline(t.Context(), client, m, nil, packs{m, nil})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := tl.At(t.Context(), generations.Latest(), d.last.Time)
	if err != nil {
		t.Fatal(err)
	}
	newest := d.history[len(d.history)-1]
	if b, err := (packs{m, nil}).read(t.Context(), plan); err != nil || plan.Txn != newest.TxnInfo || !bytes.Equal(b, newest.content) {
		t.Fatalf("without what lies under the map: %v, or it differs", err)
	}
}

// The process is killed before a map is put, and before it knows that it has
// been; or the store says that it has not been. The next one goes on.
func TestCrashWhileMapping(t *testing.T) {
	for name, fail := range map[string]error{"put": nil, "reply lost": errors.New("reply lost")} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			r := newRigWith(t, m, t.TempDir(), generations.ShipperOptions{
				Interval: time.Microsecond, Merge: generations.MergeOptions{Off: true},
			})
			d := newDatabase(93, 512)
			w := forkOften(r, d)
			var mu sync.Mutex
			var crashes []crash
			made := make(chan struct{}, 8)
			record := func(when string) func(call) error {
				return func(c call) error {
					if !isSnapshot(c) {
						return nil
					}
					mu.Lock()
					defer mu.Unlock()
					crashes = append(crashes, crash{when, copyDir(t, r.dir), m.clone(), slices.Clone(d.history)})
					if when == "before" {
						return nil
					}
					made <- struct{}{}
					return fail
				}
			}
			m.hook(record("before"), record("after"))
			w.Append(d.commit())
			r.flush()
			wait(t, made)
			r.close()
			m.hook(nil, nil)
			crashes = append(crashes, crash{"at the end", r.dir, m, d.history})
			for _, c := range crashes {
				t.Run(c.when, func(t *testing.T) {
					c.recover(t, d)
				})
			}
		})
	}
}
