package generations_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// wantKept makes sure that all that is kept can be read; the rest may be.
func (p *pruned) wantKept(t testing.TB, s generations.Store, gens []generations.ID, when string) {
	t.Helper()
	read := packs{s, nil}
	tl, err := generations.OpenTimeline(t.Context(), client, s, nil, read)
	if err != nil {
		t.Fatal(err)
	}
	now := p.history[len(p.history)-1].Time
	for n, want := range p.history {
		if !p.kept[n] {
			continue
		}
		plan, err := tl.At(t.Context(), generations.AtTime(want.Time), now)
		if err != nil || plan.Txn != want.TxnInfo || plan.Generation != gens[want.epoch] {
			t.Fatalf("%s: %s is %+v, %v; want %+v", when, want.Time, plan, err, want.TxnInfo)
		}
		if got, err := read.read(t.Context(), plan); err != nil || !slices.Equal(got, want.content) {
			t.Fatalf("%s: %s does not show what was committed, %v", when, want.Time, err)
		}
	}
}

// prunable makes a history of some days, of which a part was pruned before, with a
// fork, a generation that begins anew, and maps.
func prunable(t *testing.T, seed uint64) (*memory, *pruned, []generations.ID) {
	m := newMemory()
	r := newRigWith(t, m, t.TempDir(), generations.ShipperOptions{Interval: time.Microsecond, Merge: generations.MergeOptions{Off: true}})
	w, d := r.open(), newDatabase(seed, 512)
	p := new(pruned)
	r.begin(w, d.base(false))
	r.commitOver(w, d, 12, 30)
	gens := []generations.ID{newestGeneration(t, m)}
	r.fork(w, d, d.last.ID-2)
	r.commitOver(w, d, 8, 30)
	gens = append(gens, newestGeneration(t, m))
	p.follow(d.history)
	policy := policyOf(t, "every commit 1d, hourly 7d")
	newest := m.newestSegment(t)
	prune(t, m, policy, d.last.Time)
	p.apply(policy, d.last.Time, newest)
	r.begin(w, d.base(true))
	r.commitOver(w, d, 8, 20)
	gens = append(gens, newestGeneration(t, m))
	r.close()
	p.follow(d.history)
	p.want(t, m, gens)
	return m, p, gens
}

// A pruning is killed at every request, before and after the store has heard of it.
// What is promised is there whenever that was, and another pruning does the rest.
func TestKilledWhilePruning(t *testing.T) {
	for text, least := range map[string]int{"every commit 6h, every 8h 7d": 30, "daily 20h": 20} {
		t.Run(text, func(t *testing.T) {
			whole, kept, gens := prunable(t, 52)
			policy, now := policyOf(t, text), kept.history[len(kept.history)-1].Time
			kept.apply(policy, now, whole.newestSegment(t))
			for when, least := range map[string]int{"before": least, "after": 5} {
				for n, ended := 0, false; !ended; n++ {
					m := whole.clone()
					ended = !killPruning(t, m, policy, now, when, n)
					kept.wantKept(t, m, gens, fmt.Sprintf("killed %s request %d", when, n))
					prune(t, m, policy, now)
					kept.want(t, m, gens)
					if ended && n < least {
						t.Fatalf("a pruning makes only %d requests", n)
					}
				}
			}
		})
	}
}

// killPruning prunes m until its request n, before or after which everything fails;
// false when it makes fewer.
func killPruning(t *testing.T, m *memory, policy generations.Policy, now wal.Time, when string, n int) bool {
	var mu sync.Mutex // some requests are made side by side
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
	p := pruning(m, policy, now)
	_, err := p.Prune(t.Context(), client)
	if err == nil {
		err = p.Delete(t.Context())
	}
	if err != nil && !errors.Is(err, errDown) {
		t.Fatal(err)
	}
	return err != nil
}

// Two prune, another one compacts, and a mount ships, merges and is restarted, all at
// the same time.
func TestPruningSideBySide(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { pruneSideBySide(t, rand.New(rand.NewPCG(seed, 53))) })
	}
}

func pruneSideBySide(t *testing.T, rng *rand.Rand) {
	m := newMemory()
	dir := t.TempDir()
	r := mergingRig(t, m, dir)
	w, d := r.open(), newDatabase(rng.Uint64(), 512)
	r.begin(w, d.base(false))
	r.commitOver(w, d, 5, 10)
	gens := []generations.ID{newestGeneration(t, m)}
	policy, now := policyOf(t, "every commit 30h, every 3h 7d"), d.last.Time+hours(80)
	ctx, stop := context.WithCancel(t.Context())
	var others sync.WaitGroup
	busy := func(once func() error) {
		others.Go(func() {
			for ctx.Err() == nil {
				// Without a grace, what one reads another deletes.
				if err := once(); err != nil && ctx.Err() == nil && !errors.Is(err, generations.ErrNotFound) && !errors.Is(err, generations.ErrIncomplete) {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		busy(func() error {
			p := pruning(m, policy, now)
			_, err := p.Prune(ctx, client)
			if err != nil {
				return err
			}
			return p.Delete(ctx)
		})
	}
	busy(func() error {
		c := generations.NewCompaction(m, 0, packs{m, nil})
		if _, err := c.Merge(ctx, client); err != nil {
			return err
		}
		return c.Delete(ctx)
	})
	for range 5 {
		r.commitOver(w, d, 5+rng.IntN(12), 10)
		if rng.IntN(2) == 0 {
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
	var p pruned
	p.follow(d.history)
	newest := m.newestSegment(t)
	p.apply(policy, now, newest)
	prune(t, m, policy, now)
	p.want(t, m, gens)
}

// Where nothing may be deleted, nothing is put either; where that is noticed only
// later, what is promised is there.
func TestPruneRefused(t *testing.T) {
	m, p, gens := prunable(t, 54)
	before := m.keys()
	refused := func(c call) error {
		if c.op == "delete" {
			return fmt.Errorf("delete %s: %w", c.key, generations.ErrDenied)
		}
		return nil
	}
	m.hook(refused, nil)
	now := p.history[len(p.history)-1].Time
	policy := policyOf(t, "daily 7d")
	if _, err := pruning(m, policy, now).Prune(t.Context(), client); !errors.Is(err, generations.ErrDenied) || !slices.Equal(m.keys(), before) {
		t.Errorf("pruned what may not be deleted: %v", err)
	}
	m.hook(nil, nil)
	p.apply(policy, now, m.newestSegment(t))
	late := pruning(m, policy, now)
	if _, err := late.Prune(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	m.hook(refused, nil)
	if err := late.Delete(t.Context()); !errors.Is(err, generations.ErrDenied) {
		t.Errorf("deleted what may not be: %v", err)
	}
	m.hook(nil, nil)
	p.want(t, m, gens)
	n := len(m.keys())
	prune(t, m, policy, now)
	if len(m.keys()) >= n {
		t.Error("what was left is not deleted when it may be")
	}
	p.want(t, m, gens)
}

// A clock that is behind the newest commit is not believed.
func TestPruneByAWrongClock(t *testing.T) {
	m, p, gens := prunable(t, 55)
	last := p.history[len(p.history)-1].Time
	if _, err := pruning(m, policyOf(t, "daily 1d"), last-hours(1)).Prune(t.Context(), client); !errors.Is(err, generations.ErrClock) {
		t.Errorf("pruned by a wrong clock: %v", err)
	}
	p.want(t, m, gens)
}

// What is stored after pruning is in proportion to what is kept: that of a history
// that never had the rest, and not much more.
func TestPruneGivesSpaceBack(t *testing.T) {
	m := newMemory()
	r := newRigWith(t, m, t.TempDir(), generations.ShipperOptions{Interval: time.Microsecond, Merge: generations.MergeOptions{Off: true}})
	w, d := r.open(), newDatabase(56, 4096)
	for len(d.pages) < 100 {
		d.pages = append(d.pages, d.page())
	}
	r.begin(w, d.base(false))
	var p pruned
	for range 10 { // days
		for range 30 {
			d.last.Time += hours(24) / 31
			w.Append(d.commit())
		}
		r.flush()
	}
	p.follow(d.history)
	now := d.last.Time
	policy := policyOf(t, "daily 30d")
	before := m.bytes()
	p.apply(policy, now, m.newestSegment(t))
	plan := prune(t, m, policy, now)
	after := m.bytes()
	need := int64(0) // bytes of pages that the days that are kept differ in, and the first whole
	var last []byte
	for n, i := range p.history {
		if !p.kept[n] {
			continue
		}
		for k := 0; k < len(i.content); k += 4096 {
			if k+4096 > len(last) || string(last[k:k+4096]) != string(i.content[k:k+4096]) {
				need += 4096 / 2 // half of each page compresses
			}
		}
		last = i.content
	}
	t.Logf("%d bytes before, %d after, %d needed; %+v", before, after, need, plan.Generations)
	if float64(after) > 1.5*float64(need) {
		t.Errorf("%d bytes are left of %d, and %d are needed", after, before, need)
	}
	p.want(t, m, []generations.ID{newestGeneration(t, m)})
}

// bytes returns how many bytes m has.
func (m *memory) bytes() (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.objects {
		n += int64(len(b))
	}
	return n
}

// A generation that would go on from a transaction that was pruned is given up: its
// history would begin with what is not there.
func TestForkOfWhatWasPruned(t *testing.T) {
	m := newMemory()
	r := newRigWith(t, m, t.TempDir(), generations.ShipperOptions{Interval: time.Microsecond, Merge: generations.MergeOptions{Off: true}})
	w, d := r.open(), newDatabase(57, 512)
	r.begin(w, d.base(false))
	for range 9 {
		r.ship(w, d, 1)
	}
	prune(t, m, policyOf(t, "daily 30d"), d.last.Time)
	r.fork(w, d, 5)
	if err := <-r.broken; !errors.Is(err, generations.ErrBroken) {
		t.Fatalf("a fork of what was pruned is shipped: %v", err)
	}
	r.begin(w, d.base(false)) // as a mount does then
	r.ship(w, d, 2)
	tl, err := generations.OpenTimeline(t.Context(), client, m, nil, packs{m, nil})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := tl.At(t.Context(), generations.Latest(), d.last.Time)
	if err != nil || plan.Txn != d.last {
		t.Fatalf("the newest is %+v, %v", plan, err)
	}
	if got, err := (packs{m, nil}).read(t.Context(), plan); err != nil || !slices.Equal(got, d.history[len(d.history)-1].content) {
		t.Fatalf("the newest is not what was committed, %v", err)
	}
}
