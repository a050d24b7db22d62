package generations

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// A store is far away: what is asked of it one after the other takes long, and
// what is asked at once takes as long as one request. So what a question will
// need is asked for together, and times are looked for at several places at once.

// foresee begins everything at once that it most likely takes to find i in s and to
// show it. What fails here will be asked for again by whoever needs it, and fail
// there.
func (l lookup) foresee(ctx context.Context, s *shelf, i Instant, now wal.Time) {
	probes := []int{len(s.cover) - 1}
	switch i.kind {
	case instantTime:
		probes = s.near(whole(s, now), i.time)
	case instantTXID:
		probes = []int{holder(s.cover, i.txid)}
	}
	var objects []PlanObject
	for _, n := range probes {
		if n >= 0 {
			objects = append(objects, s.cover[n])
		}
	}
	if n := len(probes) - 1; n >= 0 && probes[n] >= 0 && (i.kind != instantTime || s.dated()) {
		objects = append(objects, s.under(probes[n])...)
	}
	var asked sync.WaitGroup
	asked.Go(func() { _, _ = l.manifest(ctx, s) })
	l.warm(ctx, objects)
	asked.Wait()
}

// warm opens objects at once. An error is met again by whoever needs the object.
func (l lookup) warm(ctx context.Context, objects []PlanObject) {
	var g errgroup.Group
	g.SetLimit(openers)
	begun := make(map[Object]bool)
	for _, o := range objects {
		if _, known := l.infos.Get(o.Object); !known && !begun[o.Object] {
			begun[o.Object] = true
			g.Go(func() error { _, err := l.info(ctx, o); return err })
		}
	}
	_ = g.Wait()
}

// stretch is where in a cover an object is looked for: behind lo, which begins at
// or before the time in question or is -1, and in front of hi, which does not or is
// the end.
type stretch struct {
	lo, hi   int
	from, to wal.TxnInfo // known ends of it; of both the index and the time count
}

// whole is all of the cover of s, if its newest transaction is of the time until.
func whole(s *shelf, until wal.Time) stretch {
	w := stretch{lo: -1, hi: len(s.cover)}
	if w.hi > 0 {
		w.from = wal.TxnInfo{ID: s.cover[0].First, Time: s.id.Time()}
		w.to = wal.TxnInfo{ID: s.cover[w.hi-1].First, Time: until}
	}
	return w
}

// near returns, ascending, where in a stretch of the cover of s the time at is
// looked for.
func (s *shelf) near(w stretch, at wal.Time) []int {
	if w.hi-w.lo <= 1 {
		return nil
	}
	if s.dated() {
		return w.dated(s.cover, at)
	}
	return w.even(s.cover, at)
}

// copied is how late the manifest of a generation may have been put for the store
// to tell when objects were: behind that, it tells of copying more likely.
const copied = wal.Time(time.Hour / time.Microsecond)

// dated reports whether the store tells when the objects of s were put.
func (s *shelf) dated() bool {
	if s.manifest == nil || s.manifest.Put == 0 || s.edition != nil { // what was thinned was put later
		return false
	}
	late := s.manifest.Put - s.id.Time()
	return -copied < late && late < copied
}

// dated returns the first object of a stretch that was put at or behind the time
// at, since one that was put before cannot have it. Small ones may have been put
// long after the one in front of them, so the next may have to tell that it begins
// behind the time.
func (w stretch) dated(cover []PlanObject, at wal.Time) []int {
	n := w.lo + 1
	for n < w.hi-1 && cover[n].Put != 0 && cover[n].Put < at {
		n++
	}
	if n > w.lo+1 && !cover[n].Final() {
		return []int{n - 1, n}
	}
	return []int{n}
}

// even returns the objects of a stretch that have the time at and are beside it,
// if commits were made evenly.
func (w stretch) even(cover []PlanObject, at wal.Time) []int {
	part := 0.0
	if w.to.Time > w.from.Time {
		part = float64(at-w.from.Time) / float64(w.to.Time-w.from.Time)
	}
	id := w.from.ID + wal.TXID(max(0, min(part, 1))*float64(w.to.ID-w.from.ID))
	guess := max(w.lo+1, min(holder(cover, id), w.hi-1))
	var near []int
	for n := max(w.lo+1, guess-1); n <= min(guess+1, w.hi-1); n++ {
		near = append(near, n)
	}
	return near
}

// spread returns some objects of a stretch, ascending, with about as many others
// between them.
func (w stretch) spread() []int {
	const parts = 5
	var some []int
	for k := 1; k < parts; k++ {
		if n := w.lo + k*(w.hi-w.lo)/parts; n > w.lo {
			some = append(some, n)
		}
	}
	return slices.Compact(some)
}

// byTime returns the last transaction in the cover of s that is at or before a
// time, false when there is none. It need not have a view. The table of
// transactions takes a trip of its own; whoever wants a view has what that takes
// made ready on it.
func (l lookup) byTime(ctx context.Context, s *shelf, at, now wal.Time, view bool) (wal.TxnInfo, bool, error) {
	i, err := l.holderAt(ctx, s, at, now)
	if err != nil || i < 0 {
		return wal.TxnInfo{}, false, err
	}
	var asked sync.WaitGroup
	defer asked.Wait()
	if view {
		asked.Go(func() { l.warm(ctx, s.under(i)) })
	}
	return l.txn(ctx, s.cover[i], func(r *pack.Reader) (wal.TxnInfo, bool, error) { return r.TxnAt(at) })
}

// byTimeFrom is byTime for a time that is not before first, the first transaction
// that has a view.
func (l lookup) byTimeFrom(ctx context.Context, s *shelf, first wal.TxnInfo, at wal.Time) (wal.TxnInfo, error) {
	txn, ok, err := l.byTime(ctx, s, at, at, false)
	if err != nil || !ok || txn.ID < first.ID {
		return first, err
	}
	return txn, nil
}

// under returns what the views of the transactions in object i of the cover of s
// take, besides it, if that lies in s.
func (s *shelf) under(i int) []PlanObject {
	first := s.cover[i].First
	for _, image := range slices.Backward(s.images) {
		if image.First < first {
			return append(slices.Clone(s.cover[max(0, holder(s.cover, image.First+1)):i]), image)
		}
	}
	return nil
}

// holderAt returns the index of the last object of the cover of s that begins at or
// before a time, -1 for none.
func (l lookup) holderAt(ctx context.Context, s *shelf, at, now wal.Time) (int, error) {
	w, cover := whole(s, max(at, now)), s.cover
	if w.hi == 0 {
		return -1, nil
	}
	if info, known := l.infos.Get(cover[w.hi-1].Object); known {
		if info.First.Time <= at {
			return w.hi - 1, nil
		}
		w.hi, w.to = w.hi-1, info.First
	}
	for round := 1; w.hi-w.lo > 1; round++ {
		probes := s.near(w, at)
		if round > 2 || round == 2 && !s.dated() { // it is elsewhere
			probes = append(probes, w.spread()...)
			slices.Sort(probes)
			probes = slices.Compact(probes)
		}
		var objects []PlanObject
		for _, n := range probes {
			objects = append(objects, cover[n])
		}
		l.warm(ctx, objects)
		// What cannot be read matters only to who is led to it.
		for len(probes) > 0 {
			n := probes[len(probes)/2]
			info, err := l.info(ctx, cover[n])
			switch {
			case err != nil:
				return -1, err
			case info.First.Time > at:
				w.hi, w.to, probes = n, info.First, probes[:len(probes)/2]
			case info.Last.Time >= at:
				return n, nil
			default:
				w.lo, w.from, probes = n, info.Last, probes[len(probes)/2+1:]
			}
		}
	}
	return w.lo, nil
}
