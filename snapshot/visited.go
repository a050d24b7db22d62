package snapshot

import (
	"sync"
	"sync/atomic"

	"github.com/walback/walback/wal"
)

// visited remembers in which regions of a database pages have been looked for. The
// first look into one most likely has to fetch what tells of it, of every layer;
// after that asking all layers would be in vain.
type visited struct {
	regions []atomic.Bool
}

// regionPages is how many pages a leaf of a map tells of, and an index block in the
// order of them.
const regionPages = 1024

func newVisited(pages wal.Pgno) visited {
	return visited{make([]atomic.Bool, pages/regionPages+1)}
}

// first reports whether nobody has asked for the region of page p before.
func (v *visited) first(p wal.Pgno) bool {
	r := &v.regions[p/regionPages]
	return !r.Load() && !r.Swap(true)
}

// foresee has all layers look for page p at the same time, so that what has to be
// fetched for that is fetched at once. What fails is met again by who needs it.
func (v *View) foresee(p wal.Pgno) {
	var asked sync.WaitGroup
	for _, l := range v.layers {
		asked.Go(func() { _, _, _, _ = l.find(p) })
	}
	asked.Go(func() { _, _ = v.cuts.get(v.findCuts) })
	asked.Wait()
}
