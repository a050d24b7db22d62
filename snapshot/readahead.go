package snapshot

import (
	"cmp"
	"iter"
	"slices"
	"sync"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// Who goes through a database from front to back needs groups of several objects in
// turn, and of each only some. So it is the view that reads ahead, which knows what
// the pages to come lie in; to an object such reads look like jumping about.

const (
	// firstAhead and lastAhead are how many bytes of a database are read ahead.
	firstAhead = 1 << 20
	lastAhead  = 16 << 20
	// scanSlack is how many bytes a read may begin before or behind the end of another
	// and still go on with it: those of a kernel that reads ahead come out of order,
	// and tables share a file.
	scanSlack = 512 << 10
	// scanSteps is how many reads must have gone on one with another.
	scanSteps = 3
)

// stream is somebody who goes through a database. All is in pages.
type stream struct {
	next  int64 // end of what has been read
	ahead int64 // end of what has been asked for
	span  int64 // how much was, the last time
	steps int
	used  int64 // readahead.clock of the last read
}

// readahead finds streams among the reads of a view, and fetches for them.
type readahead struct {
	mu      sync.Mutex
	streams [4]stream
	clock   int64
	busy    bool // something is being asked for; it asks for less than all the same

	parents [8]parent

	asking sync.WaitGroup
}

// note takes down a read of n pages from page first on, counted from 0, and returns
// what is to be asked for now: nothing, most often.
func (r *readahead) note(first, n int64, pageSize int) (from, to int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	size := int64(pageSize)
	s := &r.streams[0]
	for i := range r.streams {
		c := &r.streams[i]
		if c.used > 0 && first >= c.next-scanSlack/size && first <= c.next+scanSlack/size {
			s = c
			break
		}
		if c.used < s.used {
			s = c
		}
	}
	if s.used == 0 || first < s.next-scanSlack/size || first > s.next+scanSlack/size {
		*s = stream{next: first}
	}
	s.used = r.clock
	s.next = max(s.next, first+n)
	s.steps++
	s.ahead = max(s.ahead, s.next)
	if s.steps < scanSteps || r.busy || s.ahead-s.next > s.span/2 {
		return 0, 0
	}
	s.span = min(max(2*s.span, firstAhead/size, 1), max(lastAhead/size, 1))
	from, s.ahead = s.ahead, s.ahead+s.span
	r.busy = true
	return from, s.ahead
}

// readAhead takes down a read, and has what will be read next fetched.
func (v *View) readAhead(first, n int64) {
	from, to := v.scan.note(first, n, v.pageSize)
	if to == 0 {
		return
	}
	v.scan.asking.Go(func() {
		first, last := wal.Pgno(from)+1, wal.Pgno(min(to, int64(v.at.Size)))
		for _, s := range v.sources {
			s.Foresee(first, last+(last-first))
		}
		v.fetchAhead(func(yield func(wal.Pgno) bool) {
			for p := first; p <= last && yield(p); p++ {
			}
		})
		v.scan.mu.Lock()
		defer v.scan.mu.Unlock()
		v.scan.busy = false
	})
}

// fetchAhead has the groups fetched that pages lie in. Whatever fails is met again by
// who reads them.
func (v *View) fetchAhead(pages iter.Seq[wal.Pgno]) {
	type wanted struct {
		from *pack.Reader
		pack.Extent
		source int
	}
	var all []wanted
	groups := make(map[groupID]bool)
	for p := range pages {
		if v.closed.Load() {
			return
		}
		src, ref, ok, err := v.locate(p)
		if err != nil || !ok {
			continue
		}
		i := slices.IndexFunc(v.sources, func(s source) bool { return s.Reader == src.Reader })
		if id := (groupID{i, ref.Group}); !groups[id] {
			groups[id] = true
			if e, err := src.Extent(ref.Group); err == nil {
				all = append(all, wanted{src.Reader, e, i})
			}
		}
	}
	slices.SortFunc(all, func(a, b wanted) int { return cmp.Or(a.source-b.source, cmp.Compare(a.Off, b.Off)) })
	var a pack.Ahead
	for _, w := range all {
		a.Add(w.from, w.Extent)
	}
	a.Send()
}
