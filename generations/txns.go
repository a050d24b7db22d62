package generations

import (
	"context"
	"iter"
	"slices"
	"sync"

	"github.com/walback/walback/wal"
)

// Span is a run of transactions of a generation that have a view, the first and
// the last included. The zero Span has none.
type Span struct {
	Generation  ID
	First, Last wal.TXID
	edition     *Edition // tells which of them were pruned; nil: none
}

// Len returns how many transactions s has.
func (s Span) Len() (n int64) {
	for _, r := range s.runs() {
		n += r.len()
	}
	return n
}

// Has reports whether transaction id is one of s.
func (s Span) Has(id wal.TXID) bool {
	return slices.ContainsFunc(s.runs(), func(r KeptRun) bool { return r.First <= id && id <= r.Last })
}

// Newest returns the newest n transactions of s.
func (s Span) Newest(n int64) Span {
	has := s.Len()
	return s.Part(max(0, has-n), has)
}

// Part returns the transactions of s from the one in place from, counted from zero,
// up to the one in place to.
func (s Span) Part(from, to int64) Span {
	part := Span{Generation: s.Generation, edition: s.edition}
	at := int64(0)
	for _, r := range s.runs() {
		n := r.len()
		if part.First == 0 && from < to && from < at+n {
			part.First = r.First + wal.TXID(from-at)
		}
		if part.First != 0 && to > at {
			part.Last = r.First + wal.TXID(min(to-at, n)) - 1
		}
		at += n
	}
	return part
}

// runs returns what s has.
func (s Span) runs() []KeptRun {
	switch {
	case s.First == 0:
		return nil
	case s.edition == nil || s.First > s.edition.Through:
		return []KeptRun{{s.First, s.Last}}
	}
	var runs []KeptRun
	for _, r := range s.edition.Kept[s.edition.runFrom(s.First):] {
		if r.First > s.Last {
			break
		}
		runs = append(runs, KeptRun{max(r.First, s.First), min(r.Last, s.Last)})
	}
	if s.Last > s.edition.Through {
		runs = append(runs, KeptRun{s.edition.Through + 1, s.Last})
	}
	return runs
}

// Span returns which transactions of a generation were committed from since to
// until, both included. Of the segments it reads those where they begin and end,
// and the roots of a few others.
func (t *Timeline) Span(ctx context.Context, g ID, since, until wal.Time) (Span, error) {
	var span Span
	err := t.ask(ctx, func(l lookup) error {
		s, err := l.shelf(g)
		if err == nil {
			span, err = l.span(ctx, s, since, until)
		}
		return err
	})
	return span, err
}

func (l lookup) span(ctx context.Context, s *shelf, since, until wal.Time) (Span, error) {
	first, ok, err := l.first(ctx, s)
	if err != nil || !ok {
		return Span{}, err
	}
	last, _, err := l.last(ctx, s, first)
	if err != nil || since > last.Time || until < first.Time {
		return Span{}, err
	}
	span := Span{s.id, first.ID, last.ID, s.edition}
	if since > first.Time {
		txn, err := l.byTimeFrom(ctx, s, first, since)
		if err != nil {
			return Span{}, err
		}
		span.First = txn.ID
		if txn.Time < since {
			span.First++
		}
	}
	if until < last.Time {
		txn, err := l.byTimeFrom(ctx, s, first, until)
		if err != nil {
			return Span{}, err
		}
		span.Last = txn.ID
	}
	if s.edition != nil {
		span.First, span.Last = s.keptFrom(span.First), s.keptUpTo(span.Last)
	}
	if span.First > span.Last { // between two
		return Span{}, nil
	}
	return span, nil
}

// Txns yields the transactions of s, oldest first. Of the segments that have
// them it reads the tables, some ahead.
func (t *Timeline) Txns(ctx context.Context, s Span) iter.Seq2[wal.TxnInfo, error] {
	return t.each(ctx, s, false)
}

// TxnsBackward is Txns with the newest first.
func (t *Timeline) TxnsBackward(ctx context.Context, s Span) iter.Seq2[wal.TxnInfo, error] {
	return t.each(ctx, s, true)
}

func (t *Timeline) each(ctx context.Context, s Span, backward bool) iter.Seq2[wal.TxnInfo, error] {
	return func(yield func(wal.TxnInfo, error) bool) {
		left := s
		err := t.ask(ctx, func(l lookup) error {
			if left.First == 0 || left.First > left.Last {
				return nil
			}
			for txn, err := range l.each(ctx, left, backward) {
				if err != nil {
					return err
				}
				if backward {
					left.Last = txn.ID - 1
				} else {
					left.First = txn.ID + 1
				}
				if !yield(txn, nil) {
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

// each yields the transactions of a span. Where one is missing, it ends with an
// error.
func (l lookup) each(ctx context.Context, span Span, backward bool) iter.Seq2[wal.TxnInfo, error] {
	return func(yield func(wal.TxnInfo, error) bool) {
		s, err := l.shelf(span.Generation)
		if err != nil {
			yield(wal.TxnInfo{}, err)
			return
		}
		want := span.First
		if backward {
			want = span.Last
		}
		for txns, err := range ahead(ctx, l.parts(s, span, backward)) {
			if err != nil {
				yield(wal.TxnInfo{}, err)
				return
			}
			if backward {
				slices.Reverse(txns)
			}
			for _, txn := range txns {
				if txn.ID < span.First || txn.ID > span.Last || (txn.ID < want) != backward && txn.ID != want {
					continue
				}
				if txn.ID != want {
					yield(wal.TxnInfo{}, l.gap(s, min(want, txn.ID+1), max(want, txn.ID-1)))
					return
				}
				if s.keeps(txn.ID) && !yield(txn, nil) {
					return
				}
				if want++; backward {
					want -= 2
				}
			}
		}
		if want >= span.First && want <= span.Last {
			yield(wal.TxnInfo{}, l.gap(s, want, want))
		}
	}
}

// part loads some transactions in a row.
type part func(context.Context) ([]wal.TxnInfo, error)

// parts returns what the transactions of a span are loaded by, in their order.
func (l lookup) parts(s *shelf, span Span, backward bool) []part {
	var parts []part
	from := holder(s.cover, span.First)
	if from < 0 { // the first snapshot's own
		parts = append(parts, func(ctx context.Context) ([]wal.TxnInfo, error) {
			txn, ok, err := l.byID(ctx, s, span.First)
			if err != nil || !ok {
				return nil, err
			}
			return []wal.TxnInfo{txn}, nil
		})
	}
	for _, o := range s.cover[max(from, 0) : holder(s.cover, span.Last)+1] {
		parts = append(parts, func(ctx context.Context) ([]wal.TxnInfo, error) { return l.txns(ctx, o) })
	}
	if backward {
		slices.Reverse(parts)
	}
	return parts
}

// partsAhead is how many objects are read ahead of the one whose transactions
// are being looked at.
const partsAhead = 16

// ahead yields what parts load, in their order, and loads some of those behind
// at the same time. What it has begun to load has ended when it returns.
func ahead(ctx context.Context, parts []part) iter.Seq2[[]wal.TxnInfo, error] {
	type loaded struct {
		txns []wal.TxnInfo
		err  error
	}
	return func(yield func([]wal.TxnInfo, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var loading sync.WaitGroup
		defer loading.Wait()
		defer cancel()
		var queue []chan loaded
		for next := 0; ; {
			for ; next < len(parts) && len(queue) <= partsAhead; next++ {
				answer, load := make(chan loaded, 1), parts[next]
				queue = append(queue, answer)
				loading.Go(func() {
					txns, err := load(ctx)
					answer <- loaded{txns, err}
				})
			}
			if len(queue) == 0 {
				return
			}
			p := <-queue[0]
			queue = queue[1:]
			if !yield(p.txns, p.err) || p.err != nil {
				return
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
			if err := l.addNewest(ctx, s, n, &recent); err != nil {
				return err
			}
		}
		return nil
	})
	return recent, err
}

// addNewest adds the newest transactions of s to recent, until that has n.
func (l lookup) addNewest(ctx context.Context, s *shelf, n int, recent *[]wal.TxnInfo) error {
	if n-len(*recent) == 1 { // what is asked most often needs no table
		last, ok, err := l.newest(ctx, s)
		if err == nil && ok {
			*recent = append(*recent, last)
		}
		return err
	}
	first, ok, err := l.first(ctx, s)
	if err != nil || !ok {
		return err
	}
	last, _, err := l.last(ctx, s, first)
	if err != nil {
		return err
	}
	span := Span{s.id, first.ID, last.ID, s.edition}.Newest(int64(n - len(*recent)))
	for txn, err := range l.each(ctx, span, true) {
		if err != nil {
			return err
		}
		*recent = append(*recent, txn)
	}
	return nil
}
