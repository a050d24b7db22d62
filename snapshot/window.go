package snapshot

import (
	"cmp"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/walback/walback/wal"
)

const (
	// windowSize is how much of a database is put together at a time, in bytes.
	windowSize = 4 << 20
	// keptGroups is how many decoded groups of segments are kept while copying
	// (about 64 KiB each): the pages of one may be wanted in several windows.
	keptGroups = 256
)

// copier is what the goroutines that copy a view share.
type copier struct {
	v *View
	// groups has those of segments. Those of the snapshot are decoded once
	// without it, because windows end where they do.
	groups *lru.Cache[groupID, *sharedGroup]
}

type groupID struct{ source, group int }

// sharedGroup is decoded by whoever comes first.
type sharedGroup struct {
	once  sync.Once
	pages []byte
	err   error
}

func newCopier(v *View) *copier {
	groups, err := lru.New[groupID, *sharedGroup](keptGroups)
	if err != nil {
		panic("snapshot: " + err.Error()) // the size is constant
	}
	return &copier{v: v, groups: groups}
}

// window is a run of pages.
type window struct {
	first, last wal.Pgno
	next        wal.Pgno // first page behind it, 0 at the end
}

// window returns the window that begins with page first, and false when there
// is none.
func (c *copier) window(first wal.Pgno) (window, bool, error) {
	v := c.v
	if v.closed.Load() {
		return window{}, false, errClosed
	}
	if first == 0 || first > v.at.Size {
		return window{}, false, nil
	}
	n := wal.Pgno(windowSize / v.pageSize)
	if v.at.Size-first < n {
		return window{first: first, last: v.at.Size}, true, nil
	}
	next := first + n
	base := v.sources[len(v.sources)-1]
	ref, ok, err := base.Find(next, base.max)
	if err != nil {
		return window{}, false, err
	}
	if ok && wal.Pgno(ref.Slot) < n {
		next -= wal.Pgno(ref.Slot) // the first page of next's group, when none is left out
	}
	return window{first, next - 1, next}, true, nil
}

// filler puts windows together in its own memory.
type filler struct {
	*copier
	pages  []byte
	group  []byte
	chosen []chosen // by page
	order  []int
}

// chosen is where the version of a page to show lies.
type chosen struct {
	source      int // counted from 1; 0: nowhere
	group, slot int
	id          wal.TXID
}

func (c *copier) filler() *filler { return &filler{copier: c} }

// fill returns the pages of a window, valid until the next call, and the XOR of
// their checksums.
func (f *filler) fill(win window) ([]byte, wal.Checksum, error) {
	if err := f.choose(win); err != nil {
		return nil, 0, err
	}
	size, n := f.v.pageSize, int(win.last-win.first)+1
	if cap(f.pages) < n*size {
		f.pages = make([]byte, n*size)
	}
	pages := f.pages[:n*size]
	for i, c := range f.chosen {
		if c.source == 0 {
			clear(pages[i*size : (i+1)*size])
		}
	}
	var group []byte
	last := groupID{}
	for _, i := range f.order {
		c := f.chosen[i]
		if id := (groupID{c.source, c.group}); id != last {
			var err error
			if group, err = f.load(c.source-1, c.group); err != nil {
				return nil, 0, err
			}
			last = id
		}
		copy(pages[i*size:(i+1)*size], group[c.slot*size:])
	}
	var sum wal.Checksum
	for i := range n {
		sum ^= wal.PageSum(win.first+wal.Pgno(i), pages[i*size:(i+1)*size])
	}
	return pages, sum, nil
}

// choose finds the versions to show, and the order that takes each group once.
func (f *filler) choose(win window) error {
	f.chosen = append(f.chosen[:0], make([]chosen, win.last-win.first+1)...)
	for i, s := range f.v.sources {
		if info := s.Info(); info.MaxPgno < win.first || info.MinPgno > win.last {
			continue
		}
		for ref, err := range s.Refs(win.first) {
			if err != nil {
				return err
			}
			if ref.Pgno > win.last {
				break
			}
			c := &f.chosen[ref.Pgno-win.first]
			// A newer pack's version stays; within a pack the later one is newer.
			if ref.TXID <= s.max && (c.source == 0 || c.source == i+1) {
				*c = chosen{i + 1, ref.Group, ref.Slot, ref.TXID}
			}
		}
	}
	f.order = f.order[:0]
	for i := range f.chosen {
		c := &f.chosen[i]
		if c.source == 0 {
			continue
		}
		if cut, err := f.v.isCut(win.first+wal.Pgno(i), c.id); err != nil {
			return err
		} else if cut {
			*c = chosen{}
			continue
		}
		f.order = append(f.order, i)
	}
	slices.SortFunc(f.order, func(i, j int) int {
		a, b := &f.chosen[i], &f.chosen[j]
		return cmp.Or(a.source-b.source, a.group-b.group, a.slot-b.slot)
	})
	return nil
}

// load returns the decoded group of a source. That of the snapshot is valid
// until the next call.
func (f *filler) load(source, group int) ([]byte, error) {
	s := f.v.sources[source]
	if source == len(f.v.sources)-1 {
		pages, err := s.ReadGroup(group, f.group)
		if err == nil {
			f.group = pages
		}
		return pages, err
	}
	id := groupID{source, group}
	shared, ok := f.groups.Get(id)
	if !ok {
		shared = new(sharedGroup)
		if other, ok, _ := f.groups.PeekOrAdd(id, shared); ok {
			shared = other
		}
	}
	shared.once.Do(func() { shared.pages, shared.err = s.ReadGroup(group, nil) })
	return shared.pages, shared.err
}
