package generations

import (
	"context"
	"fmt"
	"slices"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// PrunePlan says what pruning a client does.
type PrunePlan struct {
	Client  string
	Policy  Policy
	Now     wal.Time
	Kept    []int64 // transactions, by the tier that keeps them; the last is for the newest segment, if no tier does
	Dropped int64   // transactions

	Generations []PrunedGeneration // those that change, oldest first

	generations []*revision
}

// PrunedGeneration is what becomes of one generation.
type PrunedGeneration struct {
	ID      ID
	Kept    int64 // transactions
	Dropped int64
	Gone    bool  // all of it is deleted
	Deleted int   // objects that are not needed any more
	Thinned int   // segments of which a part is needed,
	Into    int   // and how many these become
	Before  int64 // bytes of segments and snapshots
	Freed   int64 // bytes of these, about: maps are made anew
}

func (p *PrunePlan) changes() bool { return len(p.Generations) > 0 }

// revision is what is to be made of a generation.
type revision struct {
	shelf   *shelf
	parent  *Parent
	first   wal.TxnInfo // that can be looked at now; of index 0: none yet
	last    wal.TxnInfo // likewise
	kept    []KeptRun   // those that are promised
	dropped []wal.TXID  // those that could be looked at until now, and not any more
	forks   []wal.TXID  // transactions that other generations go on from
	infos   []pack.Info // of the objects of the cover
	newest  bool        // of all generations

	change, gone bool
	through      wal.TXID
	base         *PlanObject // the first snapshot of it, unless one is made
	made         wal.TXID    // as of which one is made, zero: none
	parts        []revised   // what its segments become
	pruning      ID          // names what is made
	told         PrunedGeneration
}

// revised is a segment that stays as it is, or some that are thinned into one.
type revised struct {
	objects []PlanObject
	last    wal.TXID
	thin    bool
	live    float64 // part of it that is needed
}

// planPruning decides what a policy makes of what l has.
func planPruning(ctx context.Context, l lookup, policy Policy, now wal.Time) (*PrunePlan, error) {
	plan := &PrunePlan{Client: l.client, Policy: policy, Now: now, Kept: make([]int64, len(policy)+1)}
	if err := plan.collect(ctx, l); err != nil {
		return nil, err
	}
	for _, r := range slices.Backward(plan.generations) { // what goes on from others before these
		if err := plan.decide(ctx, l, r); err != nil {
			return nil, err
		}
	}
	for _, r := range plan.generations {
		if r.change {
			plan.Generations = append(plan.Generations, r.told)
		}
	}
	return plan, nil
}

// collect finds the generations, and which of their transactions are promised.
func (p *PrunePlan) collect(ctx context.Context, l lookup) error {
	var times []wal.Time
	var ids []wal.TXID
	var ends []int // in ids, of each generation
	for _, s := range l.listing.generations {
		r := &revision{shelf: s, told: PrunedGeneration{ID: s.id}}
		p.generations = append(p.generations, r)
		if !s.gone() {
			m, err := l.manifest(ctx, s)
			if err != nil {
				return err
			}
			r.parent = m.Parent
			first, ok, err := l.first(ctx, s)
			if err != nil {
				return err
			}
			if ok {
				r.first = first
				if r.last, _, err = l.last(ctx, s, first); err != nil {
					return err
				}
				for txn, err := range l.each(ctx, Span{s.id, r.first.ID, r.last.ID, s.edition}, false) {
					if err != nil {
						return err
					}
					ids, times = append(ids, txn.ID), append(times, txn.Time)
				}
			}
		}
		ends = append(ends, len(ids))
	}
	if n := len(times); n > 0 && times[n-1] > p.Now+fast {
		return fmt.Errorf("%s: %w: its newest commit is of %s, and it is %s here; nothing was pruned", p.Client, ErrClock, times[n-1], p.Now)
	}
	if n := len(p.generations); n > 0 {
		p.generations[n-1].newest = true
	}
	begin := 0
	promised := p.Policy.Promises(p.Now, times)
	if n := len(ends); n > 0 {
		cover := p.generations[n-1].shelf.cover
		for i, id := range ids { // what is in the newest segment stays
			if c := len(cover); c > 0 && (n < 2 || i >= ends[n-2]) && id >= max(cover[c-1].First, cover[c-1].From) && promised[i] < 0 {
				promised[i] = len(p.Policy)
			}
		}
	}
	for k, end := range ends {
		p.generations[k].sort(ids[begin:end], promised[begin:end], p)
		begin = end
	}
	return nil
}

// sort notes which transactions are promised, by the tiers that by tells.
func (r *revision) sort(ids []wal.TXID, by []int, p *PrunePlan) {
	for i, id := range ids {
		if by[i] < 0 {
			r.dropped = append(r.dropped, id)
			continue
		}
		p.Kept[by[i]]++
		r.told.Kept++
		if n := len(r.kept); n > 0 && r.kept[n-1].Last == id-1 {
			r.kept[n-1].Last = id
		} else {
			r.kept = append(r.kept, KeptRun{id, id})
		}
	}
	r.told.Dropped = int64(len(r.dropped))
	p.Dropped += r.told.Dropped
}

// need notes that other generations go on from a transaction.
func (p *PrunePlan) need(at Parent) {
	for _, r := range p.generations {
		if r.shelf.id == at.Generation && !slices.Contains(r.forks, at.Txn) {
			r.forks = append(r.forks, at.Txn)
			slices.Sort(r.forks)
		}
	}
}

// needs reports whether views of transaction id are needed, or of what goes on from
// it.
func (r *revision) needs(id wal.TXID) bool { return r.nextNeeded(id) == id }

// nextNeeded returns the first transaction from id on that is needed, zero for none.
func (r *revision) nextNeeded(id wal.TXID) wal.TXID {
	e := Edition{Kept: r.kept}
	next := e.atOrBehind(id)
	if i, _ := slices.BinarySearch(r.forks, id); i < len(r.forks) && (next == 0 || r.forks[i] < next) {
		next = r.forks[i]
	}
	return next
}

// dropsAny reports whether one of the transactions from first to last is dropped.
func (r *revision) dropsAny(first, last wal.TXID) bool {
	i, _ := slices.BinarySearch(r.dropped, first)
	return i < len(r.dropped) && r.dropped[i] <= last
}
