package generations

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// nextPruning returns an ID for what is made of s now, later than all there is.
func (s *shelf) nextPruning(now wal.Time) ID {
	last := ID(0)
	if s.edition != nil {
		last = s.edition.Pruning
	}
	for _, o := range s.made {
		last = max(last, o.Pruning)
	}
	return NewID(now, last)
}

// makeBase puts the snapshot that r is to begin with, which refers to nothing else.
func (p *Pruning) makeBase(ctx context.Context, l lookup, plan *PrunePlan, r *revision) error {
	r.pruning = r.shelf.nextPruning(plan.Now)
	o := Object{Client: l.client, Generation: r.shelf.id, Kind: SnapshotObject, First: r.made, Pruning: r.pruning}
	stats, err := p.mapper(ctx, true).makeFrom(ctx, l, o)
	r.base = &PlanObject{Object: o, Size: stats.Size}
	return err
}

// revise puts what r makes of a generation, and the edition that makes it count. It
// returns l as it is then.
func (p *Pruning) revise(ctx context.Context, l lookup, plan *PrunePlan, r *revision) (lookup, error) {
	e := &Edition{
		Format: manifestFormat, Pruning: r.pruning, Pruned: plan.Now, Policy: plan.Policy.String(),
		First: FirstTxn{r.first.ID, r.first.Time}, Through: r.through, Kept: r.keptThrough(),
	}
	if e.Pruning == 0 {
		e.Pruning = r.shelf.nextPruning(plan.Now)
	}
	number := wal.TXID(1)
	if before := r.shelf.edition; before != nil {
		number, e.First = r.shelf.newest.First+1, before.First
	}
	edition := PlanObject{Object: Object{Client: l.client, Generation: r.shelf.id, Kind: EditionObject, First: number}}
	var made []PlanObject
	if !r.gone {
		var err error
		if made, err = p.thinParts(ctx, r, e); err != nil {
			return l, err
		}
		if r.base != nil {
			e.Snapshots = []string{r.base.name()}
			if r.made != 0 {
				made = append(made, *r.base)
			}
		}
		if made, err = p.chooseMaps(ctx, l, r, edition, e, made); err != nil {
			return l, err
		}
	}
	if err := p.unforked(ctx, plan); err != nil {
		return l, err
	}
	if err := p.commit(ctx, &edition, e); err != nil {
		return l, err
	}
	p.put(edition)
	return l.with(edition, e, made), nil
}

// keptThrough returns what r keeps of the transactions that its edition tells of.
func (r *revision) keptThrough() []KeptRun {
	var kept []KeptRun
	for _, k := range r.kept {
		if k.First <= r.through {
			kept = append(kept, KeptRun{k.First, min(k.Last, r.through)})
		}
	}
	return kept
}

// thinParts puts the thinned segments of r, names all segments in e, and returns
// what it has put.
func (p *Pruning) thinParts(ctx context.Context, r *revision, e *Edition) ([]PlanObject, error) {
	var made []PlanObject
	for _, v := range r.parts {
		if !v.thin {
			e.Segments = append(e.Segments, v.objects[0].name())
			continue
		}
		one, err := p.engine(ctx).thin(ctx, v, e.Pruning, r.needs)
		if err != nil {
			return nil, err
		}
		made = append(made, one)
		e.Segments = append(e.Segments, one.name())
	}
	slices.Sort(e.Segments)
	return made, nil
}

// thin puts what is needed of v as one segment.
func (m *merger) thin(ctx context.Context, v revised, pruning ID, needs func(wal.TXID) bool) (PlanObject, error) {
	var run []member
	for _, o := range v.objects {
		run = append(run, member{PlanObject: o})
	}
	inputs, done, err := m.open(ctx, run)
	if err != nil {
		return PlanObject{}, err
	}
	defer done()
	f, err := m.create()
	if err != nil {
		return PlanObject{}, err
	}
	defer f.drop() // it has no name
	o := v.object(pruning)
	needed := func(id wal.TXID) bool { return id == v.last || needs(id) }
	info, err := pack.Thin(m.through(f), o.Place(), pack.WriterOptions{Concurrency: m.cores}, v.first(), needed, inputs...)
	if err != nil {
		return PlanObject{}, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return PlanObject{}, err
	}
	one := member{PlanObject: PlanObject{Object: o, Size: size}, last: v.last}
	if err := m.store.Put(ctx, o.Key(), io.NewSectionReader(f, 0, size)); err != nil && !errors.Is(err, ErrExists) { // it was ours, then
		return PlanObject{}, err
	}
	return one.PlanObject, m.promised(ctx, one, info)
}

// chooseMaps names in e those snapshots of r that refer to what stays, and makes and
// names the maps that are missing, as a compaction would. It returns made with these.
func (p *Pruning) chooseMaps(ctx context.Context, l lookup, r *revision, edition PlanObject, e *Edition, made []PlanObject) ([]PlanObject, error) {
	for _, o := range r.shelf.images {
		if o.First > r.through || r.base != nil && o.First <= r.base.First {
			continue
		}
		void, err := l.with(edition, e, made).void(ctx, o)
		if err != nil {
			return nil, err
		}
		if !void {
			e.nameSnapshot(o.Object)
		}
	}
	var behind, last int64 // bytes of segments behind the last map, and of that beside pages
	now := l.with(edition, e, made)
	s := now.listing.find(r.shelf.id)
	for _, o := range s.cover {
		info, err := now.info(ctx, o)
		if err != nil {
			return nil, err
		}
		at := info.Last.ID
		if at > r.through || !o.Final() {
			break
		}
		if slices.ContainsFunc(s.images, func(i PlanObject) bool { return o.First <= i.First && i.First <= at }) {
			behind = 0
			continue
		}
		if behind += o.Size; behind < last {
			continue
		}
		snap := Object{Client: l.client, Generation: r.shelf.id, Kind: SnapshotObject, First: at, Pruning: e.Pruning}
		stats, err := p.mapper(ctx, false).makeFrom(ctx, now, snap)
		if err != nil {
			return nil, err
		}
		behind, last = 0, stats.Index
		made = append(made, PlanObject{Object: snap, Size: stats.Size})
		e.nameSnapshot(snap)
		now = l.with(edition, e, made)
		s = now.listing.find(r.shelf.id)
	}
	return made, nil
}

// unforked makes sure that no generation has come that may go on from what plan
// thins away: the error matches errOvertaken.
func (p *Pruning) unforked(ctx context.Context, plan *PrunePlan) error {
	known := plan.generations[len(plan.generations)-1].shelf.id
	for name, err := range p.store.Dirs(ctx, clientPrefix(plan.Client)) {
		if err != nil {
			return err
		}
		if id, err := ParseID(name); err == nil && id > known {
			return fmt.Errorf("%w: generation %s has begun", errOvertaken, id)
		}
	}
	return nil
}

func (e *Edition) nameSnapshot(o Object) {
	e.Snapshots = append(e.Snapshots, o.name())
	slices.Sort(e.Snapshots)
}

// with returns l as it would be with an edition, for which something has been made.
func (l lookup) with(edition PlanObject, e *Edition, made []PlanObject) lookup {
	d := l.listing.revise()
	s := d.edit(edition.Generation)
	s.newest, s.edition = &edition, e.clone()
	for _, o := range made {
		if !d.has(o.Object) {
			d.addStored(o)
		}
	}
	return lookup{l.Timeline, d.done()}
}

func (e *Edition) clone() *Edition {
	c := *e
	c.Segments, c.Snapshots = slices.Clone(e.Segments), slices.Clone(e.Snapshots)
	return &c
}

// commit puts an edition. The error matches errOvertaken when there is another one
// of the same number.
func (p *Pruning) commit(ctx context.Context, o *PlanObject, e *Edition) error {
	b := e.Encode()
	o.Size = int64(len(b))
	err := p.store.Put(ctx, o.Key(), io.NewSectionReader(bytes.NewReader(b), 0, o.Size))
	if errors.Is(err, ErrExists) { // perhaps a reply of ours was lost
		theirs, fetching := fetchEdition(ctx, p.store, o.Object)
		switch {
		case fetching != nil:
			err = fetching
		case bytes.Equal(theirs.Encode(), b):
			err = nil
		default:
			err = fmt.Errorf("%w: %s exists", errOvertaken, o.Key())
		}
	}
	return err
}
