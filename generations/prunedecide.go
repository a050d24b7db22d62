package generations

import (
	"context"
	"fmt"
	"slices"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

const (
	// mostLive is how much of a final segment may be needed for it to be thinned: one
	// of which more is needed stays as it is, with some that cannot be looked at.
	mostLive = 0.5
	// mostBase is how much larger than a new base, about, what stands in for it may be.
	mostBase = 1.5
	// smallMade is up to what size a thinned segment becomes part of the one behind it
	// when that is thinned, in bytes.
	smallMade = 4 << 20
	// thinnedTxns bounds the transactions of a thinned segment, which are all in its
	// table.
	thinnedTxns = 200_000
)

// decide decides what becomes of a generation.
func (p *PrunePlan) decide(ctx context.Context, l lookup, r *revision) error {
	s := r.shelf
	if s.gone() {
		return nil
	}
	if r.first.ID == 0 || len(s.cover) == 0 && len(s.images) == 0 { // still being put
		if r.parent != nil {
			p.need(*r.parent)
		}
		return nil
	}
	var err error
	if r.infos, err = l.allInfos(ctx, s.cover); err != nil {
		return err
	}
	r.gone = len(r.kept) == 0 && len(r.forks) == 0 && !r.newest
	if r.gone {
		r.change, r.through = true, r.last.ID
		for _, info := range r.infos {
			r.through = max(r.through, info.Last.ID)
		}
		for _, o := range s.images {
			r.through = max(r.through, o.First)
		}
		r.tellGone()
		return nil
	}
	n, err := r.reach(ctx, l)
	if err != nil {
		return err
	}
	if r.change {
		if err := r.chooseBase(ctx, l, p); err != nil {
			return err
		}
		if err := r.choose(ctx, l, n); err != nil {
			return err
		}
		r.tell(n)
	}
	if r.parent != nil && r.base == nil && r.made == 0 {
		p.need(*r.parent)
	}
	return nil
}

// reach decides whether an edition is due, how many segments it tells of, and up to
// which transaction.
func (r *revision) reach(ctx context.Context, l lookup) (n int, err error) {
	s := r.shelf
	touchable := len(s.cover)
	if r.newest {
		touchable-- // its name tells other writers that somebody has gone on
	}
	if len(s.cover) == 0 {
		return 0, nil // there is one transaction
	}
	reached := r.first.ID
	final := true
	for i, o := range s.cover[:max(touchable, 0)] {
		if final = final && o.Final(); final {
			n = i + 1
		}
		if r.dropsAny(max(o.From, r.infos[i].First.ID), r.infos[i].Last.ID) {
			n, r.change = i+1, true
		}
	}
	if s.cover[0].First > r.first.ID && r.dropsAny(r.first.ID, r.first.ID) {
		r.change = true // that of the snapshot it begins with
	}
	if n > 0 {
		reached = r.infos[n-1].Last.ID
	}
	if !r.change && l.pruned() { // what the maps refer to may be different now
		for _, o := range s.images {
			void, err := l.void(ctx, o)
			if err != nil {
				return 0, err
			}
			r.change = r.change || void && o.First <= reached
		}
	}
	r.through = reached
	if s.edition != nil {
		r.through = max(r.through, s.edition.Through)
	}
	return n, nil
}

// chooseBase decides what the generation begins with: a snapshot that refers to
// nothing, or a new one if that is much less than what there is up to the first
// transaction that is needed.
func (r *revision) chooseBase(ctx context.Context, l lookup, p *PrunePlan) error {
	oldest := r.nextNeeded(1)
	if oldest == 0 || oldest > r.through {
		oldest = r.through
	}
	for _, o := range r.shelf.images {
		if o.First > oldest {
			break
		}
		info, err := l.info(ctx, o)
		if err != nil {
			return err
		}
		if info.Fuzzy && o.First == oldest {
			break
		}
		refs, err := l.refs(ctx, o)
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			r.base = &o
		}
	}
	if r.base == nil {
		if r.parent != nil && p.dropsAll(r.parent.Generation) {
			r.made = oldest
		}
		return nil
	}
	if r.base.First == oldest {
		return nil
	}
	info, err := l.info(ctx, *r.base)
	if err != nil {
		return err
	}
	txn, ok, err := l.byID(ctx, r.shelf, oldest)
	if err != nil || !ok {
		return err
	}
	fresh := float64(r.base.Size) / float64(max(info.Versions, 1)) * float64(txn.Size)
	behind := int64(0) // what lies between
	for i, o := range r.shelf.cover {
		if r.infos[i].Last.ID > r.base.First && r.infos[i].Last.ID <= oldest {
			behind += o.Size
		}
	}
	if float64(r.base.Size)+min(float64(behind), fresh) > mostBase*fresh {
		r.made = oldest
	}
	return nil
}

// dropsAll reports whether no transaction of a generation is promised.
func (p *PrunePlan) dropsAll(g ID) bool {
	i := slices.IndexFunc(p.generations, func(r *revision) bool { return r.shelf.id == g })
	return i >= 0 && len(p.generations[i].kept) == 0
}

// begins returns the transaction that the first snapshot is of, zero when there is
// none in the generation.
func (r *revision) begins() wal.TXID {
	switch {
	case r.made != 0:
		return r.made
	case r.base != nil:
		return r.base.First
	}
	return 0
}

// choose decides what becomes of the first n segments.
func (r *revision) choose(ctx context.Context, l lookup, n int) error {
	s := r.shelf
	for i, o := range s.cover[:n] {
		info := r.infos[i]
		if info.Last.ID <= r.begins() {
			continue
		}
		part := revised{objects: []PlanObject{o}, last: info.Last.ID, live: 1}
		first := max(o.From, info.First.ID)
		// The newest segment stays: a writer that was stopped looks for its name.
		if (i < len(s.cover)-1 || o.Pruning != 0) && (!o.Final() || o.From != 0 || r.dropsAny(first, info.Last.ID)) {
			var err error
			if part.live, err = r.live(ctx, l, o, info); err != nil {
				return err
			}
			part.thin = !o.Final() || o.From != 0 || part.live <= mostLive
		}
		r.parts = append(r.parts, part)
	}
	r.join()
	return nil
}

// join makes one part of adjoining ones that are thinned, as long as it does not get
// too large.
func (r *revision) join() {
	for i := len(r.parts) - 2; i >= 0; i-- {
		o := r.parts[i].objects[0]
		if r.parts[i+1].thin && o.Pruning != 0 && o.Size <= smallMade {
			r.parts[i].thin = true
		}
	}
	var joined []revised
	for _, part := range r.parts {
		if n := len(joined); n > 0 && part.thin && joined[n-1].thin && joined[n-1].takes(part) {
			last := &joined[n-1]
			size := last.size() + part.size()
			last.live = (last.live*float64(last.size()) + part.live*float64(part.size())) / float64(max(size, 1))
			last.objects, last.last = append(last.objects, part.objects...), part.last
			continue
		}
		joined = append(joined, part)
	}
	r.parts = joined
}

func (v revised) size() (n int64) {
	for _, o := range v.objects {
		n += o.Size
	}
	return n
}

// takes reports whether part may become one with v.
func (v revised) takes(part revised) bool {
	return len(v.objects) < mostInputs && part.last-v.first() < thinnedTxns &&
		v.live*float64(v.size())+part.live*float64(part.size()) <= 2*finalBytes
}

// live returns how much of a segment is needed.
func (r *revision) live(ctx context.Context, l lookup, o PlanObject, info pack.Info) (float64, error) {
	reader, err := l.packs.OpenPack(ctx, o)
	if err != nil {
		return 0, err
	}
	needed, all := int64(0), int64(0)
	var before pack.Ref
	for ref, err := range reader.Refs(0) {
		if err != nil {
			return 0, err
		}
		if next := r.nextNeeded(before.TXID); before.Pgno != 0 && (ref.Pgno != before.Pgno || next != 0 && next < ref.TXID) {
			needed++
		}
		all++
		before = ref
	}
	if all == 0 {
		return 1, nil
	}
	return float64(needed+1) / float64(all), nil
}

// first returns the first transaction that v is asked for.
func (v revised) first() wal.TXID { return max(v.objects[0].First, v.objects[0].From) }

// object returns what v is thinned into.
func (v revised) object(pruning ID) Object {
	o := v.objects[0].Object
	o.First = v.first()
	o.Last, o.Pruning = v.last, pruning
	return o
}

func (r *revision) tellGone() {
	for _, o := range slices.Concat(r.shelf.images, r.shelf.cover) {
		r.told.Before += o.Size
		r.told.Deleted++
	}
	r.told.Freed, r.told.Gone = r.told.Before, true
}

// tell sums up what becomes of the first n segments.
func (r *revision) tell(n int) {
	for _, o := range slices.Concat(r.shelf.images, r.shelf.cover) {
		r.told.Before += o.Size
	}
	stay := make(map[Object]bool)
	for _, v := range r.parts {
		for _, o := range v.objects {
			stay[o.Object] = true
		}
		if v.thin {
			r.told.Thinned += len(v.objects)
			r.told.Into++
			r.told.Freed += int64((1 - v.live) * float64(v.size()))
		}
	}
	for _, o := range slices.Concat(r.shelf.images, r.shelf.cover[:n]) {
		if !stay[o.Object] && max(o.First, o.Last) <= r.begins() && (r.base == nil || r.made != 0 || o.Object != r.base.Object) {
			r.told.Deleted++
			r.told.Freed += o.Size
		}
	}
}

// String prints the plan as a person reads it.
func (g PrunedGeneration) String() string {
	if g.Gone {
		return fmt.Sprintf("generation %s: nothing is kept; %d objects are deleted", g.ID, g.Deleted)
	}
	return fmt.Sprintf("generation %s: %d transactions kept, %d dropped; %d segments thinned into %d, %d objects deleted", g.ID, g.Kept, g.Dropped, g.Thinned, g.Into, g.Deleted)
}
