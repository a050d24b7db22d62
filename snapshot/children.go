package snapshot

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/walback/walback/wal"
)

// A table that has grown in the middle goes back and forth in its file. Whoever goes
// through it reads the children of an interior page one after the other, and who
// looks for rows reads one here and one there: so when some have been read that
// adjoin, all are fetched, and those of the interior page that follows at once.
// What is read here is a hint and nothing else; any page may look like an interior
// one.

// parent is an interior page of a b-tree.
type parent struct {
	children map[wal.Pgno]int // and the place of each among them
	last     int              // place of the one read last
	run      int              // how many have been read that adjoin
	fetched  bool
	used     int64 // readahead.clock of the last read of a child, or of the page itself
}

// How many adjoining children must have been read for all to be fetched, and for a
// child to be gone through as well.
const (
	scanChildren = 3
	scanParents  = 2
)

// follow takes down that page p was read, and returns how many that adjoin have been.
func (a *parent) follow(p wal.Pgno) int {
	n, ok := a.children[p]
	if !ok {
		return 0
	}
	switch n - a.last {
	case 0:
	case 1, -1:
		a.run++
	default:
		a.run = 1
	}
	a.last = n
	return a.run
}

// behind returns the next children, which are about to be read.
func (a *parent) behind() (next []wal.Pgno) {
	const siblings = 3
	for p, n := range a.children {
		if n > a.last && n <= a.last+siblings {
			next = append(next, p)
		}
	}
	slices.SortFunc(next, func(p, q wal.Pgno) int { return a.children[p] - a.children[q] })
	return next
}

// take returns the children of a if they have not been fetched.
func (a *parent) take() []wal.Pgno {
	if a.fetched {
		return nil
	}
	a.fetched = true
	return slices.Collect(maps.Keys(a.children))
}

// The types of interior pages, SQLite file format §1.6.
const (
	interiorIndex = 2
	interiorTable = 5
)

// childrenOf returns the children of a page of a database of size pages, if it is an
// interior one.
func childrenOf(page []byte, size wal.Pgno) map[wal.Pgno]int {
	const header = 12
	if len(page) < header || page[0] != interiorIndex && page[0] != interiorTable {
		return nil
	}
	cells := int(binary.BigEndian.Uint16(page[3:]))
	if header+2*cells > len(page) {
		return nil
	}
	children := make(map[wal.Pgno]int, cells+1)
	add := func(n, at int) bool {
		if at+4 > len(page) {
			return false
		}
		child := wal.Pgno(binary.BigEndian.Uint32(page[at:]))
		children[child] = n
		return child > 1 && child <= size
	}
	if !add(cells, 8) { // the last of them
		return nil
	}
	for i := range cells {
		if !add(i, int(binary.BigEndian.Uint16(page[header+2*i:]))) {
			return nil
		}
	}
	return children
}

// noteChildren takes down that the pages in b were read, from page first on, and
// returns which to fetch, and of which interior ones to fetch the children.
func (r *readahead) noteChildren(b []byte, first wal.Pgno, size wal.Pgno, pageSize int) (due, next []wal.Pgno) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	for p := first; len(b) >= pageSize; p, b = p+1, b[pageSize:] {
		var above *parent // of p, if it is gone through
		for i := range r.parents {
			of := &r.parents[i]
			n := of.follow(p)
			if n > 0 {
				of.used = r.clock
			}
			if n >= scanChildren {
				due = append(due, of.take()...)
			}
			if n >= scanParents {
				above = of
			}
		}
		children := childrenOf(b[:pageSize], size)
		if children == nil {
			continue
		}
		of := parent{children: children, last: -2, used: r.clock}
		if above != nil {
			due = append(due, of.take()...)
			next = append(next, above.behind()...)
		}
		oldest := 0
		for i := range r.parents {
			if r.parents[i].used < r.parents[oldest].used {
				oldest = i
			}
		}
		r.parents[oldest] = of
	}
	return due, next
}

// fetchChildren takes down that the pages in b were read, and has those fetched that
// will most likely be read next.
func (v *View) fetchChildren(b []byte, first wal.Pgno) {
	due, next := v.scan.noteChildren(b, first, v.at.Size, v.pageSize)
	if len(due) == 0 {
		return
	}
	v.scan.asking.Go(func() {
		v.fetchAhead(slices.Values(due))
		page := make([]byte, v.pageSize)
		for _, p := range next {
			if v.closed.Load() || v.readPage(p, page) != nil {
				return
			}
			v.fetchAhead(maps.Keys(childrenOf(page, v.at.Size)))
		}
	})
}
