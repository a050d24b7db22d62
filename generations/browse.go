package generations

import (
	"context"
	"iter"
	"slices"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// GenerationInfo sums a generation up.
type GenerationInfo struct {
	ID       ID
	Manifest Manifest
	// First and Last are the first and the last transaction that have a view;
	// zero while the generation is still being put.
	First, Last         wal.TxnInfo
	Snapshots, Segments int
	Bytes               int64 // of both
}

// PackInfo is an object and what its root tells.
type PackInfo struct {
	PlanObject
	Info pack.Info
}

// Generations returns the generations, oldest first.
func (t *Timeline) Generations(ctx context.Context) ([]GenerationInfo, error) {
	var all []GenerationInfo
	err := t.ask(ctx, func(l lookup) error {
		all = nil
		for _, s := range l.listing.generations {
			g, err := l.generation(ctx, s)
			if err != nil {
				return err
			}
			all = append(all, g)
		}
		return nil
	})
	return all, err
}

func (l lookup) generation(ctx context.Context, s *shelf) (GenerationInfo, error) {
	g := GenerationInfo{ID: s.id, Snapshots: len(s.images), Segments: len(s.cover)}
	for _, o := range slices.Concat(s.images, s.cover) {
		g.Bytes += o.Size
	}
	var err error
	if g.Manifest, err = l.manifest(ctx, s); err != nil {
		return g, err
	}
	first, ok, err := l.first(ctx, s)
	if err != nil || !ok {
		return g, err
	}
	g.First = first
	g.Last, _, err = l.last(ctx, s, first)
	return g, err
}

// Snapshots returns the snapshots of a generation, oldest first.
func (t *Timeline) Snapshots(ctx context.Context, g ID) ([]PackInfo, error) {
	return t.described(ctx, g, func(s *shelf) []PlanObject { return s.images })
}

// Segments returns the segments of a generation, and pieces not shipped yet, in
// the order of their transactions. Each transaction is in one of them.
func (t *Timeline) Segments(ctx context.Context, g ID) ([]PackInfo, error) {
	return t.described(ctx, g, func(s *shelf) []PlanObject { return s.cover })
}

func (t *Timeline) described(ctx context.Context, g ID, objects func(*shelf) []PlanObject) ([]PackInfo, error) {
	var packs []PackInfo
	err := t.ask(ctx, func(l lookup) error {
		s, err := l.shelf(g)
		if err != nil {
			return err
		}
		infos, err := l.allInfos(ctx, objects(s))
		if err != nil {
			return err
		}
		packs = make([]PackInfo, len(infos))
		for i, o := range objects(s) {
			packs[i] = PackInfo{o, infos[i]}
		}
		return nil
	})
	return packs, err
}

// Txns yields the transactions of a generation that have a view, from since to
// until (both included; until 0 is no bound), oldest first. It reads the tables
// of one segment after the other.
func (t *Timeline) Txns(ctx context.Context, g ID, since, until wal.Time) iter.Seq2[wal.TxnInfo, error] {
	return func(yield func(wal.TxnInfo, error) bool) {
		var next wal.TXID // 0: not known yet
		err := t.ask(ctx, func(l lookup) error {
			s, err := l.shelf(g)
			if err == nil && next == 0 {
				next, err = l.startAt(ctx, s, since)
			}
			if err != nil {
				return err
			}
			for txn, err := range l.from(ctx, s, next) {
				if err != nil {
					return err
				}
				next = txn.ID + 1
				if until != 0 && txn.Time > until || txn.Time >= since && !yield(txn, nil) {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			yield(wal.TxnInfo{}, err)
		}
	}
}

// startAt returns the index of a transaction at or shortly before since.
func (l lookup) startAt(ctx context.Context, s *shelf, since wal.Time) (wal.TXID, error) {
	first, ok, err := l.first(ctx, s)
	if err != nil || !ok || since <= first.Time {
		return first.ID, err
	}
	txn, err := l.byTime(ctx, s, first, since)
	return txn.ID, err
}

// from yields the transactions of s from start on; zero is none at all.
func (l lookup) from(ctx context.Context, s *shelf, start wal.TXID) iter.Seq2[wal.TxnInfo, error] {
	return func(yield func(wal.TxnInfo, error) bool) {
		if start == 0 {
			return
		}
		next := start
		if i := holder(s.cover, start); i < 0 { // the first snapshot's own
			txn, ok, err := l.byID(ctx, s, start)
			if err != nil || !ok || !yield(txn, nil) {
				if err != nil {
					yield(wal.TxnInfo{}, err)
				}
				return
			}
			next++
		}
		for _, o := range s.cover[max(holder(s.cover, next), 0):] {
			txns, err := l.txns(ctx, o)
			if err == nil && len(txns) > 0 && txns[0].ID > next {
				err = l.gap(s, next, txns[0].ID-1)
			}
			if err != nil {
				yield(wal.TxnInfo{}, err)
				return
			}
			for _, txn := range txns {
				if txn.ID < next {
					continue
				}
				if !yield(txn, nil) {
					return
				}
				next++
			}
		}
	}
}

// Recent returns the newest n transactions that have a view, newest first.
func (t *Timeline) Recent(ctx context.Context, n int) ([]wal.TxnInfo, error) {
	var recent []wal.TxnInfo
	err := t.ask(ctx, func(l lookup) error {
		recent = nil
		for _, s := range slices.Backward(l.listing.generations) {
			if len(recent) >= n {
				break
			}
			found, err := l.newest(ctx, s, wal.TXID(n-len(recent)))
			if err != nil {
				return err
			}
			recent = append(recent, found...)
		}
		return nil
	})
	return recent, err
}

// newest returns the newest n transactions of s that have a view, newest first.
func (l lookup) newest(ctx context.Context, s *shelf, n wal.TXID) ([]wal.TxnInfo, error) {
	first, ok, err := l.first(ctx, s)
	if err != nil || !ok {
		return nil, err
	}
	last, _, err := l.last(ctx, s, first)
	if err != nil {
		return nil, err
	}
	start := first.ID
	if last.ID-first.ID >= n {
		start = last.ID - n + 1
	}
	var found []wal.TxnInfo
	for txn, err := range l.from(ctx, s, start) {
		if err != nil {
			return nil, err
		}
		found = append(found, txn)
	}
	slices.Reverse(found)
	return found, nil
}
