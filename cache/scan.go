package cache

// How far to read ahead, in bytes.
const (
	firstWindow = 256 << 10
	lastWindow  = 8 << 20
	// aheadLimit bounds what is being read ahead at any time, by all.
	aheadLimit = 8 * lastWindow
)

// What still counts as going on where the last read ended: parallel readers
// come a little out of order, and an overlay leaves gaps.
const (
	scanBack = 256 << 10
	scanGap  = 64 << 10
)

// span is a part of an object.
type span struct{ off, length int64 } // bytes

// scan is a reader that goes through an object from front to back.
type scan struct {
	next   int64 // end of what it has read
	ahead  int64 // end of what has been read ahead
	window int64 // how much was read ahead the last time; 0: not yet
	steps  int   // reads that went on where others had ended
	used   int64 // scans.clock of the last read
}

// scans tells the reads that are in sequence from those that are not: several
// readers go through one object at a time, and others jump about in it.
type scans struct {
	all   [8]scan
	clock int64
}

// note takes down a read, which missed if it had to begin a fetch, and returns
// what to read ahead now, if anything.
func (s *scans) note(off, n int64, missed bool) span {
	s.clock++
	c := s.find(off)
	c.used = s.clock
	if c.steps < 0 || off < c.next {
		// A new one, or a parallel reader that comes late.
		c.steps = max(c.steps, 0)
		c.next = max(c.next, off+n)
		return span{}
	}
	c.next = off + n
	c.steps++
	switch {
	case c.steps < 2:
		return span{}
	case c.window == 0 && !missed:
		return span{} // all of it has been kept so far
	case c.window == 0:
		c.window, c.ahead = firstWindow, c.next
	case missed: // what was here when we read ahead is gone by now
		c.ahead = c.next
	case c.ahead-c.next >= c.window/2:
		return span{}
	default:
		c.window, c.ahead = min(2*c.window, lastWindow), max(c.ahead, c.next)
	}
	c.ahead += c.window
	return span{c.ahead - c.window, c.window}
}

// find returns the scan that a read at off goes on with, or else a new one in
// place of the one that was not used for longest; its steps are -1.
func (s *scans) find(off int64) *scan {
	oldest := &s.all[0]
	for i := range s.all {
		c := &s.all[i]
		if c.used > 0 && off >= c.next-scanBack && off <= c.next+scanGap {
			return c
		}
		if c.used < oldest.used {
			oldest = c
		}
	}
	*oldest = scan{next: off, steps: -1}
	return oldest
}
