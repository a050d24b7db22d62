package generations

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// plan returns the objects that make up s as of txn.
func (l lookup) plan(ctx context.Context, s *shelf, txn wal.TxnInfo) (Plan, error) {
	p, err := l.bare(ctx, s, txn)
	if err == nil {
		p.Objects, err = l.objects(ctx, s, txn.ID)
	}
	return p, err
}

// bare returns the plan of s as of txn without its objects.
func (l lookup) bare(ctx context.Context, s *shelf, txn wal.TxnInfo) (Plan, error) {
	m, err := l.manifest(ctx, s)
	if err != nil {
		return Plan{}, err
	}
	return Plan{Client: l.client, File: m.File, Generation: s.id, Txn: txn, PageSize: m.PageSize}, nil
}

// objects returns what makes up transaction id of s, newest first: segments
// back to a snapshot, which may lie in a parent.
func (l lookup) objects(ctx context.Context, s *shelf, id wal.TXID) ([]PlanObject, error) {
	var objects []PlanObject
	below := wal.MaxTXID + 1 // snapshots from here on are of no use
	for {
		image, err := l.imageBefore(ctx, s, id, below)
		if err != nil {
			return nil, err
		}
		var parent *Parent
		var base wal.TXID // what the segments lie over
		if image != nil {
			base = image.First
		} else {
			m, err := l.manifest(ctx, s)
			if err != nil {
				return nil, err
			}
			if m.Parent == nil || m.Parent.Generation >= s.id || m.Parent.Txn > id {
				return nil, tell(ErrIncomplete, "%s: generation %s has no snapshot for transaction %d", l.client, s.id, id)
			}
			parent, base = m.Parent, m.Parent.Txn
		}
		run, err := l.segments(ctx, s, base+1, id, image)
		if err != nil {
			return nil, err
		}
		if image != nil {
			void, err := l.void(ctx, *image)
			if err != nil {
				return nil, err
			}
			if void {
				below = image.First
				continue
			}
		}
		below = wal.MaxTXID + 1
		slices.Reverse(run)
		objects = append(objects, run...)
		if parent == nil {
			return append(objects, *image), nil
		}
		// A view shows of the parent's packs what lies before the first one of s, so
		// not what the parent alone went on with.
		id = parent.Txn
		child := s.id
		if s = l.listing.find(parent.Generation); s == nil {
			return nil, tell(ErrIncomplete, "%s: generation %s goes on from %s, which is missing", l.client, child, parent.Generation)
		}
	}
}

// void reports whether a snapshot is a map that refers to something which a pruning
// has taken out of history: the map may have been made at the same time.
func (l lookup) void(ctx context.Context, image PlanObject) (bool, error) {
	if l.pruned() {
		refs, err := l.refs(ctx, image)
		if err != nil {
			return false, err
		}
		for _, p := range refs {
			g, err := ParseID(p.Generation)
			if err != nil || l.listing.superseded(l.client, g, p.Name) {
				return true, nil
			}
		}
	}
	return false, nil
}

// pruned reports whether anything has been pruned.
func (l lookup) pruned() bool {
	return slices.ContainsFunc(l.listing.generations, func(s *shelf) bool { return s.edition != nil })
}

// refs returns the places that a snapshot refers to.
func (l lookup) refs(ctx context.Context, image PlanObject) ([]pack.Place, error) {
	r, err := l.packs.OpenPack(ctx, image)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.client, err)
	}
	var places []pack.Place
	for _, o := range r.Objects() {
		places = append(places, o.Place)
	}
	return places, nil
}

// imageBefore returns the newest snapshot of s in front of below that transaction
// id can lie over, nil when there is none. A fuzzy one is no view of its own
// transaction.
func (l lookup) imageBefore(ctx context.Context, s *shelf, id, below wal.TXID) (*PlanObject, error) {
	for _, o := range slices.Backward(s.images) {
		if o.First > id || o.First >= below {
			continue
		}
		if o.First == id {
			info, err := l.info(ctx, o)
			if err != nil {
				return nil, err
			}
			if info.Fuzzy {
				continue
			}
		}
		return &o, nil
	}
	return nil, nil
}

// segments returns the objects of s that hold transactions from to to,
// ascending, and makes sure that none is missing. They are opened for it, at
// the same time, and so is the image under them, if it is not nil; who executes
// the plan needs them open anyway.
func (l lookup) segments(ctx context.Context, s *shelf, from, to wal.TXID, image *PlanObject) ([]PlanObject, error) {
	if from > to {
		return nil, nil
	}
	run := slices.Clone(s.cover[max(holder(s.cover, from), 0) : holder(s.cover, to)+1])
	opened := slices.Clip(run)
	if image != nil {
		opened = append(opened, *image)
	}
	infos, err := l.allInfos(ctx, opened)
	if err != nil {
		return nil, err
	}
	next := from
	var needed []PlanObject
	for i, info := range infos[:len(run)] {
		switch {
		case info.First.ID > next:
			return nil, l.gap(s, next, info.First.ID-1)
		case info.Last.ID >= next: // else it has only what others have, whatever its name promised
			for n := len(needed); n > 0 && needed[n-1].First >= info.First.ID; n-- {
				needed = needed[:n-1] // it has all of these too
			}
			needed = append(needed, run[i])
			next = info.Last.ID + 1
		}
	}
	if next <= to {
		return nil, l.gap(s, next, to)
	}
	return needed, nil
}

// allInfos returns what the roots of objects tell.
func (l lookup) allInfos(ctx context.Context, objects []PlanObject) ([]pack.Info, error) {
	infos := make([]pack.Info, len(objects))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(openers)
	for i, o := range objects {
		var known bool
		if infos[i], known = l.infos.Get(o.Object); known {
			continue
		}
		g.Go(func() (err error) {
			infos[i], err = l.info(ctx, o)
			return err
		})
	}
	return infos, g.Wait()
}
