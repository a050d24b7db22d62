package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// window is a run of pages that is put together at once.
type window struct {
	first, last wal.Pgno
	next        wal.Pgno // first page behind it, 0 at the end
	pieces      []piece
	placed      []placed // pages that somebody stored, in the order of pieces
	requests    []*request

	memory []byte
	bytes  []byte // in memory: the pages, once it is filled
	sum    wal.Checksum
	filled chan struct{} // closed when bytes and sum are set
}

// piece is what a window takes out of a group.
type piece struct {
	groupID
	pack.Extent
	from, to int      // in placed
	edge     bool     // another window may want the group too
	run      int      // page of the window from which on all of the group lie in a row; -1: they do not
	request  *request // brings the stored bytes
}

// placed is where a page of a window lies in its group.
type placed struct {
	page, slot int32  // page is counted from the window's first
	sum        uint32 // what the index says of it
}

type groupID struct{ source, group int }

// chosen is the version of a page to show.
type chosen struct {
	groupID // source is counted from 1; 0: nowhere
	slot    int
	sum     uint32
	id      wal.TXID
}

// maxNeed is how many stored bytes a window may need before a smaller one is
// tried, where so many versions are kept that each page lies in a group of its
// own.
const maxNeed = 16 << 20

// window returns the window that begins with page first, nil when there is
// none.
func (c *copier) window(first wal.Pgno) (*window, error) {
	v := c.v
	if first > v.at.Size {
		return nil, nil
	}
	for n := wal.Pgno(c.size / v.pageSize); ; n /= 2 {
		w := &window{first: first, last: v.at.Size, filled: make(chan struct{})}
		if v.at.Size-first >= n {
			next, err := c.align(first, first+n)
			if err != nil {
				return nil, err
			}
			w.last, w.next = next-1, next
		}
		need, err := c.choose(w)
		if err != nil {
			return nil, err
		}
		if need <= maxNeed || n == 1 {
			return w, nil
		}
	}
}

// align returns the end of a window near next so that groups of the snapshot
// need not be decoded for two windows.
func (c *copier) align(first, next wal.Pgno) (wal.Pgno, error) {
	base := c.v.sources[len(c.v.sources)-1]
	ref, ok, err := base.Find(next, base.max)
	if err != nil || !ok {
		return next, err
	}
	if slot := wal.Pgno(ref.Slot); slot < next-first {
		next -= slot // the first page of next's group, when none is left out
	}
	return next, nil
}

// choose finds the versions to show and returns how many stored bytes they take.
func (c *copier) choose(w *window) (need int64, err error) {
	all := make([]chosen, w.last-w.first+1)
	for i, s := range c.v.sources {
		if info := s.Info(); info.MaxPgno < w.first || info.MinPgno > w.last {
			continue
		}
		for ref, err := range s.Refs(w.first) {
			if err != nil {
				return 0, err
			}
			if ref.Pgno > w.last {
				break
			}
			c := &all[ref.Pgno-w.first]
			// A newer pack's version stays; within a pack the later one is newer.
			if ref.TXID <= s.max && (c.source == 0 || c.source == i+1) {
				*c = chosen{groupID{i + 1, ref.Group}, ref.Slot, ref.Sum, ref.TXID}
			}
		}
	}
	order := make([]int32, 0, len(all))
	for i := range all {
		c0 := &all[i]
		if c0.source == 0 {
			continue
		}
		if cut, err := c.v.isCut(w.first+wal.Pgno(i), c0.id); err != nil {
			return 0, err
		} else if !cut {
			order = append(order, int32(i))
		}
	}
	slices.SortFunc(order, func(i, j int32) int {
		a, b := &all[i], &all[j]
		return cmp.Or(a.source-b.source, a.group-b.group, a.slot-b.slot)
	})
	w.placed = make([]placed, len(order))
	for n, i := range order {
		w.placed[n] = placed{i, int32(all[i].slot), all[i].sum}
		id := groupID{all[i].source - 1, all[i].group}
		if last := len(w.pieces) - 1; last < 0 || w.pieces[last].groupID != id {
			e, err := c.v.sources[id.source].Extent(id.group)
			if err != nil {
				return 0, err
			}
			w.pieces = append(w.pieces, piece{groupID: id, Extent: e, from: n})
			need += int64(e.Stored)
		}
		w.pieces[len(w.pieces)-1].to = n + 1
	}
	w.arrange()
	return need, nil
}

// arrange finds the groups that may have pages of other windows, too (the first
// and the last of each source: those of the snapshot end where windows do), and
// puts those in front that can be decoded where they belong, in page order: what
// is decoded there may spoil the page behind it.
func (w *window) arrange() {
	for i := range w.pieces {
		p := &w.pieces[i]
		first := i == 0 || w.pieces[i-1].source != p.source
		last := i == len(w.pieces)-1 || w.pieces[i+1].source != p.source
		p.edge = (first || last) && p.to-p.from < p.Count
		p.run = -1
		// Slots ascend and pages do so with them.
		from, to := w.placed[p.from], w.placed[p.to-1]
		if p.to-p.from == p.Count && int(to.page-from.page) == p.Count-1 {
			p.run = int(from.page)
		}
	}
	slices.SortStableFunc(w.pieces, func(a, b piece) int {
		if a.run >= 0 && b.run >= 0 {
			return a.run - b.run
		}
		return cmp.Compare(b.run, a.run)
	})
}

// filler puts windows together.
type filler struct {
	*copier
	group  []byte // memory for a decoded group
	stored []bool // memory for which pages of a window somebody stored
}

// fill fills w, whose memory is there.
func (f *filler) fill(ctx context.Context, w *window) error {
	size, n := f.v.pageSize, int(w.last-w.first)+1
	w.bytes = w.memory[:n*size]
	w.sum = 0
	for i := range w.pieces {
		p := &w.pieces[i]
		if err := f.take(ctx, w, p); err != nil {
			return err
		}
		for _, at := range w.placed[p.from:p.to] {
			pgno := w.first + wal.Pgno(at.page)
			sum := wal.PageSum(pgno, w.bytes[int(at.page)*size:][:size])
			if uint32(sum) != at.sum {
				return &pack.CorruptError{Place: f.v.sources[p.source].Place(), Off: p.Off,
					What: fmt.Sprintf("group %d does not hold page %d at slot %d", p.group, pgno, at.slot)}
			}
			w.sum ^= sum
		}
	}
	if len(w.placed) < n {
		f.fillZeros(w)
	}
	return nil
}

// fillZeros makes zeros of the pages that nobody stored.
func (f *filler) fillZeros(w *window) {
	f.stored = append(f.stored[:0], make([]bool, w.last-w.first+1)...)
	for _, at := range w.placed {
		f.stored[at.page] = true
	}
	for i, stored := range f.stored {
		if !stored {
			page := w.bytes[i*f.v.pageSize:][:f.v.pageSize]
			clear(page)
			w.sum ^= wal.PageSum(w.first+wal.Pgno(i), page)
		}
	}
}

// take puts the pages of a piece in their places.
func (f *filler) take(ctx context.Context, w *window, p *piece) error {
	size, all := f.v.pageSize, w.placed[p.from:p.to]
	if p.run >= 0 {
		return f.decode(ctx, p, w.memory[p.run*size:])
	}
	group, err := f.load(ctx, p)
	if err != nil {
		return err
	}
	for _, at := range all {
		group.Read(int(at.slot), w.bytes[int(at.page)*size:][:size])
	}
	return nil
}

// decode decodes a group into dst, which has room for it.
func (f *filler) decode(ctx context.Context, p *piece, dst []byte) error {
	stored, err := f.supply.wait(ctx, p)
	if err != nil {
		return err
	}
	_, err = f.v.sources[p.source].DecodeGroup(p.group, p.Extent, stored, dst)
	return err
}

// open decodes a group, in dst if there is room.
func (f *filler) open(ctx context.Context, p *piece, dst []byte) (*pack.Pages, error) {
	stored, err := f.supply.wait(ctx, p)
	if err != nil {
		return nil, err
	}
	return f.v.sources[p.source].OpenGroup(p.group, p.Extent, stored, dst)
}

// sharedGroup is decoded by whoever comes first.
type sharedGroup struct {
	once  sync.Once
	pages *pack.Pages
	err   error
}

// load returns the pages of a group, valid until the next call.
func (f *filler) load(ctx context.Context, p *piece) (*pack.Pages, error) {
	if !p.edge {
		if size := p.Count*f.v.pageSize + pack.DecodeSlack; cap(f.group) < size {
			f.group = make([]byte, size)
		}
		return f.open(ctx, p, f.group)
	}
	shared, ok := f.groups.Get(p.groupID)
	if !ok {
		shared = new(sharedGroup)
		if other, ok, _ := f.groups.PeekOrAdd(p.groupID, shared); ok {
			shared = other
		}
	}
	shared.once.Do(func() { shared.pages, shared.err = f.open(ctx, p, nil) })
	return shared.pages, shared.err
}
