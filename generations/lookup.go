package generations

import (
	"cmp"
	"context"
	"slices"
	"sort"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// At answers an instant with a plan, out of what the last Refresh has found. A
// time means the last transaction at or before it, in the newest generation
// that begins at or before it; an index the transaction of the newest
// generation that has it. The error matches ErrNoInstant (in the future of now,
// before history begins, an unknown index), ErrNoGeneration, or ErrIncomplete
// when objects are missing.
func (t *Timeline) At(ctx context.Context, i Instant, now wal.Time) (Plan, error) {
	var plan Plan
	err := t.ask(ctx, func(l lookup) (err error) {
		plan, err = l.at(ctx, i, now)
		return err
	})
	return plan, err
}

// Find is At without the Objects: it says what i means, and opens only what it
// takes to find that out.
func (t *Timeline) Find(ctx context.Context, i Instant, now wal.Time) (Plan, error) {
	var found Plan
	err := t.ask(ctx, func(l lookup) error {
		s, txn, err := l.find(ctx, i, now)
		if err == nil {
			found, err = l.bare(ctx, s, txn)
		}
		return err
	})
	return found, err
}

// lookup answers questions about one listing.
type lookup struct {
	*Timeline
	listing *listing
}

func (l lookup) at(ctx context.Context, i Instant, now wal.Time) (Plan, error) {
	s, txn, err := l.find(ctx, i, now)
	if err != nil {
		return Plan{}, err
	}
	return l.plan(ctx, s, txn)
}

// find returns the transaction that i means, and the generation it is of.
func (l lookup) find(ctx context.Context, i Instant, now wal.Time) (*shelf, wal.TxnInfo, error) {
	var none wal.TxnInfo
	if i.kind == instantTime && i.time > now {
		return nil, none, tell(ErrNoInstant, "%s is in the future: it is %s", i.time, now)
	}
	among := l.listing.generations
	if i.generation != 0 {
		s, err := l.shelf(i.generation)
		if err != nil {
			return nil, none, err
		}
		among = []*shelf{s}
	}
	for _, s := range slices.Backward(among) {
		txn, ok, err := l.instant(ctx, s, i, now)
		if err != nil || ok {
			return s, txn, err
		}
	}
	return nil, none, l.none(ctx, among, i)
}

// shelf returns the generation g.
func (l lookup) shelf(g ID) (*shelf, error) {
	if s := l.listing.find(g); s != nil {
		return s, nil
	}
	return nil, tell(ErrNoGeneration, "%s has no generation %s", l.client, g)
}

// instant returns the transaction that i means in s; false when s has none.
func (l lookup) instant(ctx context.Context, s *shelf, i Instant, now wal.Time) (wal.TxnInfo, bool, error) {
	l.foresee(ctx, s, i, now)
	if i.kind == instantLatest {
		return l.newest(ctx, s)
	}
	if s.edition != nil {
		return l.keptAt(ctx, s, i, now)
	}
	if i.kind == instantTXID && s.shows(i.txid) {
		return l.byID(ctx, s, i.txid)
	}
	if i.kind == instantTime {
		txn, ok, err := l.byTime(ctx, s, i.time, now, true)
		if err != nil || ok && s.shows(txn.ID) {
			return txn, err == nil, err
		}
	}
	first, ok, err := l.first(ctx, s)
	switch {
	case err != nil || !ok:
		return wal.TxnInfo{}, false, err
	case i.kind == instantTXID && i.txid < first.ID, i.kind == instantTime && i.time < first.Time:
		return wal.TxnInfo{}, false, nil
	case i.kind == instantTXID:
		return l.byID(ctx, s, i.txid)
	}
	txn, err := l.byTimeFrom(ctx, s, first, i.time)
	return txn, err == nil, err
}

// none is the error for an instant that no generation has.
func (l lookup) none(ctx context.Context, among []*shelf, i Instant) error {
	var oldest, newest wal.TxnInfo
	for _, s := range among {
		first, ok, err := l.first(ctx, s)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if oldest.ID == 0 {
			oldest = first
		}
		if newest, _, err = l.last(ctx, s, first); err != nil {
			return err
		}
	}
	switch {
	case oldest.ID == 0:
		return tell(ErrNoInstant, "%s has no transaction yet: its first snapshot is not stored", l.client)
	case i.kind == instantTXID:
		return tell(ErrNoInstant, "%s has no transaction %d; the newest is %d of %s", l.client, i.txid, newest.ID, newest.Time)
	}
	return tell(ErrNoInstant, "history of %s begins at %s, after %s", l.client, oldest.Time, i.time)
}

// first returns the first transaction of s that has a view; false when there is
// none yet, because the generation is still being put. It is that of the first
// snapshot or, in a generation that goes on from a parent, the first one of its
// own.
func (l lookup) first(ctx context.Context, s *shelf) (wal.TxnInfo, bool, error) {
	if s.edition != nil {
		return l.firstKept(ctx, s)
	}
	imaged := len(s.images) > 0
	if !imaged && len(s.cover) == 0 {
		return wal.TxnInfo{}, false, nil
	}
	if !imaged || len(s.cover) > 0 && s.cover[0].First <= s.images[0].First {
		m, err := l.manifest(ctx, s)
		if err == nil && m.Parent != nil {
			return l.byID(ctx, s, m.Parent.Txn+1)
		}
		if err == nil && !imaged {
			err = tell(ErrIncomplete, "%s: generation %s has no snapshot", l.client, s.id)
		}
		if err != nil {
			return wal.TxnInfo{}, false, err
		}
	}
	info, err := l.info(ctx, s.images[0])
	if err != nil || !info.Fuzzy {
		return info.Last, err == nil, err
	}
	return l.byID(ctx, s, info.Last.ID+1)
}

// newest returns the newest transaction of s; false when none has a view yet.
func (l lookup) newest(ctx context.Context, s *shelf) (wal.TxnInfo, bool, error) {
	if n := len(s.cover); n > 0 {
		info, err := l.info(ctx, s.cover[n-1])
		if err != nil || s.shows(info.Last.ID) {
			return info.Last, err == nil, err
		}
	}
	first, ok, err := l.first(ctx, s)
	if err != nil || !ok {
		return wal.TxnInfo{}, false, err
	}
	return l.last(ctx, s, first)
}

// last returns the newest transaction of s, whose first is given.
func (l lookup) last(ctx context.Context, s *shelf, first wal.TxnInfo) (wal.TxnInfo, bool, error) {
	if len(s.cover) == 0 {
		return first, true, nil
	}
	info, err := l.info(ctx, s.cover[len(s.cover)-1])
	if err != nil {
		return wal.TxnInfo{}, false, err
	}
	if info.Last.ID < first.ID {
		return first, true, nil
	}
	if kept := s.keptUpTo(info.Last.ID); kept != info.Last.ID {
		return l.byID(ctx, s, kept)
	}
	return info.Last, true, nil
}

// byID returns the transaction with index id of s; false when s does not have
// it.
func (l lookup) byID(ctx context.Context, s *shelf, id wal.TXID) (wal.TxnInfo, bool, error) {
	k, ok := slices.BinarySearchFunc(s.images, id, func(o PlanObject, id wal.TXID) int { return cmp.Compare(o.First, id) })
	if ok {
		info, err := l.info(ctx, s.images[k])
		if err != nil || !info.Fuzzy {
			return info.Last, err == nil, err
		}
	}
	i := holder(s.cover, id)
	if i < 0 {
		return wal.TxnInfo{}, false, nil
	}
	txn, ok, err := l.txn(ctx, s.cover[i], func(r *pack.Reader) (wal.TxnInfo, bool, error) { return r.Txn(id) })
	if err != nil || ok {
		return txn, ok, err
	}
	if i+1 < len(s.cover) {
		return wal.TxnInfo{}, false, l.gap(s, id, s.cover[i+1].First-1)
	}
	return wal.TxnInfo{}, false, nil
}

// holder returns the index of the last object of cover that begins at or before
// id, -1 for none.
func holder(cover []PlanObject, id wal.TXID) int {
	return sort.Search(len(cover), func(i int) bool { return max(cover[i].First, cover[i].From) > id }) - 1
}

// gap is the error for transactions of which no object is there.
func (l lookup) gap(s *shelf, first, last wal.TXID) error {
	return tell(ErrIncomplete, "%s: generation %s: the segments with transactions %d to %d are missing", l.client, s.id, first, last)
}
