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
	seen   map[storedPlace]bool
	pages  int64
	bytes  int64
}

type storedGroup struct {
	place pack.Place
	group int
}

// storedPlace is where a group lies. Of a map, two groups may be one.
type storedPlace struct {
	place pack.Place
	off   int64
}

// Stored begins to sum up.
func (v *View) Stored() *Stored {
	return &Stored{view: v, groups: make(map[storedGroup]bool), seen: make(map[storedPlace]bool)}
}

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
	if err != nil {
		return err
	}
	s.groups[g] = true
	if at := (storedPlace{src.Place(), e.Off}); !s.seen[at] {
		s.seen[at] = true
		s.bytes += int64(e.Stored)
	}
	return nil
}

// Pages returns how many pages were added.
func (s *Stored) Pages() int64 { return s.pages }

// Bytes returns how long the groups are, as they are stored, that hold them.
func (s *Stored) Bytes() int64 { return s.bytes }

// Objects returns what the packs of the view refer to: objects that are read as
// well, though they are not among the packs.
func (v *View) Objects() []pack.MapObject { return v.sources[len(v.sources)-1].Objects() }
