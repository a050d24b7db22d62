package generations_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// mergingRig is a rig that merges as fast as it can, and deletes what has been
// merged at once.
func mergingRig(t *testing.T, s generations.Store, dir string) *rig {
	return newRigWith(t, s, dir, generations.ShipperOptions{
		Interval: time.Microsecond,
		Merge:    generations.MergeOptions{Grace: time.Nanosecond, Share: 1},
	})
}

// ship commits n times, each commit in a segment of its own.
func (r *rig) ship(w *generations.Writer, d *database, n int) {
	r.t.Helper()
	for range n {
		w.Append(d.commit())
		r.flush()
	}
}

// merged waits until everything is merged that is to be.
func (r *rig) merged() {
	r.t.Helper()
	if err := r.shipper.Merged(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// segments returns the names of the segments in m.
func (m *memory) segments() (names []string) {
	for _, k := range m.keys() {
		if _, name, ok := strings.Cut(k, "/wal/"); ok {
			names = append(names, name)
		}
	}
	return names
}

// untilSegments waits until m has at most n segments, of which none that has been
// merged into another.
func (m *memory) untilSegments(t *testing.T, n int) {
	t.Helper()
	changed := make(chan struct{}, 1)
	m.hook(nil, func(call) error {
		select {
		case changed <- struct{}{}:
		default:
		}
		return nil
	})
	defer m.hook(nil, nil)
	for len(m.segments()) > n {
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatalf("%d segments are left, want %d: %v", len(m.segments()), n, m.segments())
		}
	}
}

// What has been merged is the same history, with every instant, in few objects,
// whenever it is looked at.
func TestMergedHistoryIsWhatWasCommitted(t *testing.T) {
	m := newMemory()
	dir := t.TempDir()
	r := mergingRig(t, m, dir)
	w, d := r.open(), newDatabase(31, 512)
	r.begin(w, d.base(false))
	r.ship(w, d, 50)
	wantHistory(t, m, r.spool, d.history)
	r.ship(w, d, 30)
	r.merged()
	r.close() // and what was to be deleted is left
	r = mergingRig(t, m, dir)
	w = r.open()
	r.ship(w, d, 40)
	r.merged()
	m.untilSegments(t, 18) // 16, the newest one, and one that came since the last merge
	wantHistory(t, m, nil, d.history)
}

// Merging reads local copies: without a restart, the store is asked only whether
// it has what was put.
func TestMergingReadsCopies(t *testing.T) {
	m := newMemory()
	r := newRigWith(t, m, t.TempDir(), generations.ShipperOptions{Interval: time.Microsecond, Merge: generations.MergeOptions{Share: 1}})
	w, d := r.open(), newDatabase(32, 512)
	r.begin(w, d.base(false))
	r.ship(w, d, 100)
	r.merged()
	merges := m.count("put", "-00000") // of merged segments
	if gets, lists := m.count("get", ""), m.count("list", ""); merges < 5 || gets != merges || lists != 0 {
		t.Errorf("%d merges, %d Gets, %d Lists", merges, gets, lists)
	}
}

// Two commits a microsecond, or five milliseconds, apart are two instants after
// merging by a mount, by a compaction, and both, over and over.
func TestMergingKeepsInstants(t *testing.T) {
	m := newMemory()
	r := mergingRig(t, m, t.TempDir())
	w, d := r.open(), newDatabase(33, 512)
	r.begin(w, d.base(false))
	for i := range 120 {
		txn := d.commit()
		if i > 0 { // 1 µs and 5 ms after the one before, in turn
			txn.Time = d.history[len(d.history)-2].Time + []wal.Time{1, 5000}[i%2]
			d.last.Time, d.history[len(d.history)-1].Time = txn.Time, txn.Time
		}
		w.Append(txn)
		if i%3 > 0 {
			r.flush()
		}
	}
	r.flush()
	r.merged()
	if m.count("put", "-00000") == 0 {
		t.Fatal("nothing was merged")
	}
	wantHistory(t, m, nil, d.history)
	for range 2 {
		compact(t, m)
		wantHistory(t, m, nil, d.history)
		r.ship(w, d, 5)
	}
	compact(t, m)
	if n := len(m.segments()); n != 2 {
		t.Errorf("%d segments, want two: %v", n, m.segments())
	}
	wantHistory(t, m, nil, d.history)
}

// compact compacts the client, and deletes what has been merged at once.
func compact(t *testing.T, s generations.Store) {
	t.Helper()
	c := generations.NewCompaction(s, 0, packs{s, nil})
	if _, err := c.Merge(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A process is killed before and after every request that merging makes. The next
// one has all of history, and goes on.
func TestKilledWhileMerging(t *testing.T) {
	m := newMemory()
	r := mergingRig(t, m, t.TempDir())
	w, d := r.open(), newDatabase(34, 512)
	r.begin(w, d.base(false))
	var shipping sync.RWMutex // nothing is deleted meanwhile: what a crash leaves must be of one moment
	deleted := make(chan struct{}, 1)
	var crashes []crash
	record := func(when string, c call) {
		if c.op == "delete" || strings.Contains(c.key, "-00000") {
			crashes = append(crashes, crash{when + " " + c.op + " " + c.key, copyDir(t, r.dir), m.clone(), slices.Clone(d.history)})
		}
	}
	r.ship(w, d, 15)
	m.hook(func(c call) error {
		if c.op == "delete" {
			shipping.RLock()
		}
		record("before", c)
		return nil
	}, func(c call) error {
		record("after", c)
		if c.op == "delete" {
			shipping.RUnlock()
			deleted <- struct{}{}
		}
		return nil
	})
	for range 20 {
		shipping.Lock()
		r.ship(w, d, 1)
		r.merged()
		shipping.Unlock()
		for m.anyReplaced() {
			wait(t, deleted)
		}
	}
	r.close()
	if len(crashes) < 36 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for i, c := range crashes {
		t.Run(fmt.Sprintf("%d/%s", i, c.when), func(t *testing.T) { c.recover(t, d) })
	}
}

// anyReplaced reports whether m has segments that are part of others.
func (m *memory) anyReplaced() bool {
	reached := ""
	for _, name := range m.segments() {
		first, last, isMerged := strings.Cut(strings.TrimSuffix(name, ".wal"), "-")
		if first <= reached {
			return true
		}
		if isMerged {
			reached = last
		}
	}
	return false
}

// A compaction is killed at every request, before and after the store has heard
// of it; another one finishes the work.
func TestKilledWhileCompacting(t *testing.T) {
	whole := newMemory()
	r := newRigWith(t, whole, t.TempDir(), generations.ShipperOptions{Interval: time.Microsecond, Merge: generations.MergeOptions{Off: true}})
	w, d := r.open(), newDatabase(35, 512)
	r.begin(w, d.base(false))
	r.ship(w, d, 12)
	d.goBack(9)
	r.fork(w, d, 9)
	r.flush()
	r.ship(w, d, 6)
	r.close()
	for when, least := range map[string]int{"before": 30, "after": 2} { // replies can be lost of Puts
		for n, ended := 0, false; !ended; n++ {
			m := whole.clone()
			ended = !kill(t, m, when, n)
			wantHistory(t, m, nil, d.history)
			compact(t, m)
			wantHistory(t, m, nil, d.history)
			if left := m.segments(); len(left) != 4 {
				t.Fatalf("killed %s request %d: the segments left are %v", when, n, left)
			}
			if ended && n < least {
				t.Fatalf("a compaction makes only %d requests", n)
			}
		}
	}
}

// kill compacts m until its request n, before or after which everything fails;
// false when it makes fewer.
func kill(t *testing.T, m *memory, when string, n int) bool {
	var mu sync.Mutex // the first requests are made side by side
	made := 0
	fail := func(call) error {
		mu.Lock()
		defer mu.Unlock()
		if made++; made > n {
			return errDown
		}
		return nil
	}
	if when == "before" {
		m.hook(fail, nil)
	} else {
		m.hook(nil, fail)
	}
	defer m.hook(nil, nil)
	c := generations.NewCompaction(m, 0, packs{m, nil})
	_, err := c.Merge(t.Context(), client)
	if err == nil {
		err = c.Delete(t.Context())
	}
	if err != nil && !errors.Is(err, errDown) {
		t.Fatal(err)
	}
	return err != nil
}

// A mount, another one that goes on from a copy, and two compactions merge the
// same at the same time, and are interrupted.
func TestMergingSideBySide(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { sideBySide(t, rand.New(rand.NewPCG(seed, 36))) })
	}
}

func sideBySide(t *testing.T, rng *rand.Rand) {
	m := newMemory()
	dir := t.TempDir()
	r := mergingRig(t, m, dir)
	w, d := r.open(), newDatabase(rng.Uint64(), 512)
	r.begin(w, d.base(false))
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			for ctx.Err() == nil {
				c := generations.NewCompaction(m, 0, packs{m, nil})
				_, err := c.Merge(ctx, client)
				if err == nil {
					err = c.Delete(ctx)
				}
				if err != nil && ctx.Err() == nil && !errors.Is(err, generations.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	for range 6 {
		r.ship(w, d, 5+rng.IntN(12))
		if rng.IntN(3) == 0 {
			r.close()
			r = mergingRig(t, m, dir)
			w = r.open()
		}
	}
	r.merged()
	stop()
	others.Wait()
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	wantHistory(t, m, nil, d.history)
	compact(t, m)
	wantHistory(t, m, nil, d.history)
}

// Where nothing may be deleted, that is said once, and harms nothing.
func TestDeletesRefused(t *testing.T) {
	m := newMemory()
	var log bytes.Buffer
	r := newRigWith(t, m, t.TempDir(), generations.ShipperOptions{
		Interval: time.Microsecond,
		Logger:   slog.New(slog.NewTextHandler(&log, nil)),
		Merge:    generations.MergeOptions{Grace: time.Nanosecond, Share: 1},
	})
	refused := make(chan struct{}, 100)
	m.hook(func(c call) error {
		if c.op == "delete" {
			refused <- struct{}{}
			return fmt.Errorf("delete %s: %w", c.key, generations.ErrDenied)
		}
		return nil
	}, nil)
	w, d := r.open(), newDatabase(37, 512)
	r.begin(w, d.base(false))
	r.ship(w, d, 60)
	r.merged()
	<-refused
	r.close()
	if n := strings.Count(log.String(), "cannot be deleted"); n != 1 || len(refused) > 0 {
		t.Errorf("said %d times, asked %d times more:\n%s", n, len(refused), &log)
	}
	wantHistory(t, m, nil, d.history)
	c := generations.NewCompaction(m, 0, packs{m, nil})
	if _, err := c.Merge(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context()); !errors.Is(err, generations.ErrDenied) {
		t.Errorf("a compaction that may not delete: %v", err)
	}
	wantHistory(t, m, nil, d.history)
}
