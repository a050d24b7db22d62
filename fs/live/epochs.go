package live

import (
	"maps"
	"slices"
	"time"

	"github.com/walback/walback/wal"
)

// epochs knows which pages are in a log that is written past the daemon. Nobody
// tells when such a log is restarted, only that it was; the pages of the epochs
// that have ended must be in the database file then. Of a log that goes through
// the daemon logEnded is told, so there are none.
type epochs struct {
	salts   [2]uint32
	current map[wal.Pgno]struct{} // of the epoch under way
	ended   map[wal.Pgno]struct{} // of those before, not compared yet
	last    time.Time             // when some were compared
}

// compareEvery is how often pages of epochs that have ended are compared at most:
// where a log is restarted many times a second, most of its pages are the same.
const compareEvery = time.Second

// newEpochs begins behind a position of the log, in front of which the pages are.
func newEpochs(at wal.Position, pages []wal.Pgno) *epochs {
	e := &epochs{salts: [2]uint32{at.Salt1, at.Salt2}, last: time.Now()}
	for _, p := range pages {
		e.add(&e.current, p)
	}
	return e
}

func (e *epochs) add(to *map[wal.Pgno]struct{}, p wal.Pgno) {
	if *to == nil {
		*to = make(map[wal.Pgno]struct{})
	}
	(*to)[p] = struct{}{}
}

// commit adds the pages of a commit.
func (e *epochs) commit(c wal.Commit) {
	if salts := [2]uint32{c.End.Salt1, c.End.Salt2}; salts != e.salts {
		e.salts = salts
		if e.ended == nil {
			e.ended, e.current = e.current, nil
		} else {
			maps.Copy(e.ended, e.current)
			clear(e.current)
		}
	}
	for _, f := range c.Frames {
		e.add(&e.current, f.Pgno)
	}
}

// due returns the pages to compare now, ascending: not those that the log has
// again. They are not due any more then.
func (e *epochs) due(now time.Time) []wal.Pgno {
	if len(e.ended) == 0 || now.Sub(e.last) < compareEvery {
		return nil
	}
	for p := range e.current {
		delete(e.ended, p)
	}
	pages := e.pending()
	e.ended, e.last = nil, now
	return pages
}

// postpone makes pages due again.
func (e *epochs) postpone(pages []wal.Pgno) {
	for _, p := range pages {
		e.add(&e.ended, p)
	}
}

// hurry makes what is to be compared due at once.
func (e *epochs) hurry() { e.last = time.Time{} }

// pending returns the pages that are still to be compared, ascending.
func (e *epochs) pending() []wal.Pgno { return slices.Sorted(maps.Keys(e.ended)) }
