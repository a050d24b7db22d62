package generations_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// policyOf parses a policy.
func policyOf(t testing.TB, text string) generations.Policy {
	t.Helper()
	p, err := generations.ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pruning returns what prunes s at a time, and deletes at once.
func pruning(s generations.Store, policy generations.Policy, now wal.Time) *generations.Pruning {
	return generations.NewPruning(s, packs{s, nil}, generations.PruneOptions{
		Policy: policy, Now: func() time.Time { return now.Std() },
	})
}

// prune prunes s by a policy.
func prune(t testing.TB, s generations.Store, policy generations.Policy, now wal.Time) *generations.PrunePlan {
	t.Helper()
	p := pruning(s, policy, now)
	plan, err := p.Prune(t.Context(), client)
	if err == nil {
		err = p.Delete(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// pruned is a history of which a part is kept.
type pruned struct {
	history []instant
	kept    []bool
}

// follow takes note of what has been committed since.
func (p *pruned) follow(history []instant) {
	p.history = slices.Clone(history)
	for len(p.kept) < len(history) {
		p.kept = append(p.kept, history[len(p.kept)].content != nil)
	}
}

// apply takes away what a policy does not keep. Of the newest segment, which begins
// with a transaction of the newest generation, all stays.
func (p *pruned) apply(policy generations.Policy, now wal.Time, newest wal.TXID) {
	var times []wal.Time
	var at []int
	for i, is := range p.kept {
		if is {
			times, at = append(times, p.history[i].Time), append(at, i)
		}
	}
	last := p.history[len(p.history)-1].epoch
	for k, tier := range policy.Promises(now, times) {
		i := p.history[at[k]]
		p.kept[at[k]] = tier >= 0 || i.epoch == last && i.ID >= newest
	}
}

// newestSegment returns the first transaction of the newest segment of m.
func (m *memory) newestSegment(t testing.TB) wal.TXID {
	first := generations.Object{}
	for _, k := range m.keys() {
		o, err := generations.ParseKey(k)
		if err != nil {
			t.Fatal(err)
		}
		if o.Kind == generations.SegmentObject && o.Pruning == 0 && (o.Generation > first.Generation || o.First > first.First) {
			first = o
		}
	}
	return first.First
}

// want makes sure that exactly what is kept can be looked at, and is what was
// committed. gens are the generations by epoch.
func (p *pruned) want(t testing.TB, s generations.Store, gens []generations.ID) {
	t.Helper()
	ctx := t.Context()
	read := packs{s, nil}
	tl, err := generations.OpenTimeline(ctx, client, s, nil, read)
	if err != nil {
		t.Fatal(err)
	}
	now := p.history[len(p.history)-1].Time + 1
	var all []wal.TxnInfo
	for n, want := range p.history {
		if want.content == nil {
			continue
		}
		g := gens[want.epoch]
		if p.kept[n] {
			all = append(all, want.TxnInfo)
		}
		until := now - 1 // the newest up to then
		if n+1 < len(p.history) {
			until = p.history[n+1].Time - 1
		}
		for _, i := range []generations.Instant{generations.AtTXID(want.ID).In(g), generations.AtTime(want.Time), generations.AtTime(until)} {
			plan, err := tl.At(ctx, i, now)
			if !p.kept[n] {
				if !errors.Is(err, generations.ErrNoInstant) && !errors.Is(err, generations.ErrNoGeneration) {
					t.Fatalf("%s (transaction %d of %s), which is not kept, is %+v, %v", i, want.ID, g, plan, err)
				}
				continue
			}
			if err != nil || plan.Txn != want.TxnInfo || plan.Generation != g {
				t.Fatalf("%s is %+v, %v; want %+v of %s", i, plan, err, want.TxnInfo, g)
			}
			got, err := read.read(ctx, plan)
			if err != nil || !bytes.Equal(got, want.content) {
				t.Fatalf("%s does not show what was committed, %v; plan %s", i, err, plan)
			}
		}
	}
	p.wantListed(t, tl, all)
}

// wantListed makes sure that the log has these transactions and no others.
func (p *pruned) wantListed(t testing.TB, tl *generations.Timeline, all []wal.TxnInfo) {
	t.Helper()
	gens, err := tl.Generations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var listed []wal.TxnInfo
	for _, g := range gens {
		n := len(listed)
		for txn, err := range tl.Txns(t.Context(), g.Span()) {
			if err != nil {
				t.Fatal(err)
			}
			listed = append(listed, txn)
		}
		if got := g.Span().Len(); got != int64(len(listed)-n) {
			t.Fatalf("%d transactions are counted, %d listed", got, len(listed)-n)
		}
	}
	if !slices.Equal(listed, all) {
		t.Fatalf("%d transactions are listed, want %d:\n%v\n%v", len(listed), len(all), listed, all)
	}
	recent, err := tl.Recent(t.Context(), 5)
	slices.Reverse(recent)
	if err != nil || !slices.Equal(recent, all[max(0, len(all)-5):]) {
		t.Fatalf("recent %v, %v", recent, err)
	}
}

// commitOver commits n times, at random over some hours, in segments of several.
func (r *rig) commitOver(w *generations.Writer, d *database, n, hours int) {
	r.t.Helper()
	for range n {
		d.last.Time += wal.Time(d.rng.Int64N(int64(hours)*3600e6/int64(n) + 1))
		w.Append(d.commit())
		if d.rng.IntN(3) == 0 {
			r.flush()
		}
	}
	r.flush()
}

func hours(n int) wal.Time { return wal.Time(n) * 3600e6 }

// Whatever happens to a database, and whenever it is pruned by whatever policy,
// exactly what is promised is kept, and can be read.
func TestPruneKeepsWhatIsPromised(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { pruneAny(t, rand.New(rand.NewPCG(seed, 51))) })
	}
}

var policies = []string{
	"every commit 6h, hourly 1d, daily 7d", "hourly 2d, daily forever", "daily 2d", "every 15m 3h",
	"every commit 1s", "every commit 1d, every 6h 3d", "yearly 1y", "every commit forever",
}

func pruneAny(t *testing.T, rng *rand.Rand) {
	m := newMemory()
	dir := t.TempDir()
	options := generations.ShipperOptions{
		Interval: time.Microsecond,
		Merge:    generations.MergeOptions{Grace: time.Nanosecond, Share: 1, Off: rng.IntN(3) == 0},
	}
	r := newRigWith(t, m, dir, options)
	w, d := r.open(), newDatabase(rng.Uint64(), 512)
	var p pruned
	r.begin(w, d.base(rng.IntN(2) == 0))
	r.commitOver(w, d, 1+rng.IntN(20), 1+rng.IntN(40))
	gens := []generations.ID{m.list(t)[0].ID}
	for range 6 {
		switch rng.IntN(4) {
		case 0:
			from := d.last.ID - wal.TXID(rng.IntN(3))
			if from <= wal.TXID(2) || !slices.ContainsFunc(d.history, func(i instant) bool { return i.ID == from && i.epoch == d.history[len(d.history)-1].epoch }) {
				continue
			}
			d.goBack(from)
			r.fork(w, d, from)
			r.flush()
			gens = append(gens, newestGeneration(t, m))
		case 1:
			r.begin(w, d.base(false))
			r.flush()
			gens = append(gens, newestGeneration(t, m))
		}
		r.commitOver(w, d, rng.IntN(20), 1+rng.IntN(40))
		r.merged()
		p.follow(d.history)
		policy := policyOf(t, policies[rng.IntN(len(policies))])
		now := d.last.Time + hours(rng.IntN(30))
		newest := m.newestSegment(t)
		prune(t, m, policy, now)
		p.apply(policy, now, newest)
		p.want(t, m, gens)
		again := prune(t, m, policy, now)
		if again.Dropped > 0 || len(again.Generations) > 0 {
			t.Fatalf("pruning twice drops %d more: %+v", again.Dropped, again.Generations)
		}
		p.want(t, m, gens)
	}
}

// newestGeneration returns the newest one that m has.
func newestGeneration(t testing.TB, m *memory) generations.ID {
	keys := m.keys()
	o, err := generations.ParseKey(keys[len(keys)-1])
	if err != nil {
		t.Fatal(err)
	}
	return o.Generation
}
