package snapshot

import (
	"sync"

	"github.com/walback/walback/wal"
)

// foresight has what tells where the pages of a view lie fetched ahead of a planner
// that goes through it.
type foresight struct {
	v     *View
	next  wal.Pgno // what is in front of it has been asked for
	begun bool
	asked sync.WaitGroup
}

// foreseen is how many pages are asked for at a time: half a MiB of an index, or of
// leaves.
const foreseen = 64 * regionPages

// reach makes sure that what comes behind page p is under way.
func (f *foresight) reach(p wal.Pgno) {
	if !f.begun { // an error is met again by whoever needs to know
		f.asked.Go(func() { _, _ = f.v.cuts.get(f.v.findCuts) })
		f.begun = true
	}
	for f.next <= f.v.at.Size && f.next < p+foreseen {
		for _, s := range f.v.sources {
			s.Foresee(f.next, f.next+foreseen-1)
		}
		f.next += foreseen
	}
}
