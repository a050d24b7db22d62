package snapshot

import (
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// Stored sums up what has to be fetched for pages of a view. Its zero value is
// not usable: View.Stored makes one.
type Stored struct {
	view   *View
	groups map[storedGroup]bool
	pages  int64
	bytes  int64
}

type storedGroup struct {
	place pack.Place
	group int
}

// Stored begins to sum up.
func (v *View) Stored() *Stored { return &Stored{view: v, groups: make(map[storedGroup]bool)} }

// Add adds a page. It reads indexes only.
func (s *Stored) Add(p wal.Pgno) error {
	s.pages++
	src, ref, ok, err := s.view.locate(p)
	if err != nil || !ok {
		return err
	}
	g := storedGroup{src.Place(), ref.Group}
	if s.groups[g] {
		return nil
	}
	e, err := src.Extent(ref.Group)
	if err == nil {
		s.groups[g] = true
		s.bytes += int64(e.Stored)
	}
	return err
}

// Pages returns how many pages were added.
func (s *Stored) Pages() int64 { return s.pages }

// Bytes returns how long the groups are, as they are stored, that hold them.
func (s *Stored) Bytes() int64 { return s.bytes }
