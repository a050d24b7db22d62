package generations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/walback/walback/wal"
)

// A generation with an edition consists of the objects that this names, and of
// what came behind.

// readEdition reads an edition that was listed.
type readEdition func(context.Context, PlanObject) (*Edition, error)

// readEditions reads the editions that count and are not known.
func (d *draft) readEditions(ctx context.Context, read readEdition) error {
	for id := range d.touched {
		s := d.shelves[id]
		if s.newest == nil || s.edition != nil {
			continue
		}
		var err error
		if s.edition, err = read(ctx, *s.newest); err != nil {
			return err
		}
	}
	return nil
}

// revisedImages returns the snapshots of s that count.
func (s *shelf) revisedImages() []PlanObject {
	var images []PlanObject
	for _, o := range s.images {
		if o.Pruning == 0 && (o.Local || !s.edition.supersedes(o.Object)) {
			images = append(images, o)
		}
	}
	for _, o := range s.made {
		if o.Kind == SnapshotObject && s.edition.names(o.Object) {
			images = append(images, o)
		}
	}
	return images
}

// revisedCover returns the cover of s, and the segments of it that no pruning has
// made.
func (s *shelf) revisedCover() (revised, stored []PlanObject) {
	var own, named, behind []PlanObject
	for _, o := range s.stored {
		switch {
		case s.edition.names(o.Object):
			own, named = append(own, o), append(named, o)
		case !s.edition.supersedes(o.Object):
			behind = append(behind, o)
		}
	}
	for _, o := range s.made {
		if o.Kind == SegmentObject && s.edition.names(o.Object) {
			named = append(named, o)
		}
	}
	slices.SortFunc(named, inKeyOrder)
	behind = cover(behind, nil)
	pieces := slices.DeleteFunc(slices.Clone(s.pieces), func(o PlanObject) bool { return o.Last <= s.edition.Through })
	for _, o := range cover(behind, pieces) {
		if o.First <= s.edition.Through { // merged by somebody who did not know
			o.From = s.edition.Through + 1
		}
		named = append(named, o)
	}
	stored = append(own, behind...)
	slices.SortFunc(stored, inKeyOrder)
	return named, stored
}

// keeps reports whether transaction id of s can be looked at, if it is there.
func (s *shelf) keeps(id wal.TXID) bool {
	return s.edition == nil || id > s.edition.Through || s.edition.keeps(id)
}

// keptUpTo returns the newest transaction up to id that can be looked at, zero for
// none.
func (s *shelf) keptUpTo(id wal.TXID) wal.TXID {
	if s.keeps(id) {
		return id
	}
	return s.edition.atOrBefore(id)
}

// keptFrom returns the oldest transaction from id on that can be looked at, if it
// is there.
func (s *shelf) keptFrom(id wal.TXID) wal.TXID {
	if s.keeps(id) {
		return id
	}
	if kept := s.edition.atOrBehind(id); kept != 0 {
		return kept
	}
	return s.edition.Through + 1
}

// gone reports whether a pruning has left nothing of s.
func (s *shelf) gone() bool { return s.edition != nil && s.edition.gone() }

// superseded reports whether an object that a map refers to is not of its
// generation any more.
func (l *listing) superseded(client string, g ID, name string) bool {
	s := l.find(g)
	if s == nil {
		return true
	}
	o, ok := objectNamed(client, g, name)
	return !ok || s.edition != nil && s.edition.supersedes(o)
}

// maxEdition bounds how much of an edition is read, in bytes: a million runs of
// transactions.
const maxEdition = 32 << 20

// readEdition reads an edition, once.
func (t *Timeline) readEdition(ctx context.Context, o PlanObject) (*Edition, error) {
	t.mu.Lock()
	e := t.editions[o.Object]
	t.mu.Unlock()
	if e != nil {
		return e, nil
	}
	e, err := fetchEdition(ctx, t.store, o.Object)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for old := range t.editions {
		if old.Generation == o.Generation {
			delete(t.editions, old)
		}
	}
	t.editions[o.Object] = e
	return e, nil
}

// fetchEdition reads an edition from a store.
func fetchEdition(ctx context.Context, s Store, o Object) (*Edition, error) {
	body, err := s.Get(ctx, o.Key(), 0, maxEdition)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(body, maxEdition))
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	e, err := ParseEdition(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Key(), err)
	}
	return e, nil
}

// newestEdition returns the edition of a generation that counts, nil when nothing of
// it was pruned.
func newestEdition(ctx context.Context, s Store, client string, g ID) (*Edition, error) {
	newest := Object{}
	for e, err := range s.List(ctx, generationPrefix(client, g)+editionDir+"/", "") {
		if err != nil {
			return nil, err
		}
		if o, err := ParseKey(e.Key); err == nil && o.Kind == EditionObject && o.Client == client {
			newest = o // the last one is the newest
		}
	}
	if newest == (Object{}) {
		return nil, nil
	}
	return fetchEdition(ctx, s, newest)
}
