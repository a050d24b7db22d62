package pack

import (
	"fmt"
	"iter"
	"sort"

	"github.com/walback/walback/wal"
)

// Find returns the newest version of page p that is not newer than max, and
// false when there is none. It reads at most one index block.
func (r *Reader) Find(p wal.Pgno, max wal.TXID) (Ref, bool, error) {
	if p < r.root.MinPgno || p > r.root.MaxPgno || p == 0 || max < r.root.First.ID {
		return Ref{}, false, nil
	}
	k := r.root.key(p, min(max, r.root.Last.ID))
	n := r.lastIndex(k)
	if n < 0 {
		return Ref{}, false, nil
	}
	x, err := r.indexBlock(n)
	if err != nil {
		return Ref{}, false, err
	}
	ref := r.ref(x, x.last(k))
	return ref, ref.Pgno == p, nil
}

// lastIndex returns the last index block that begins at or before k, or -1.
func (r *Reader) lastIndex(k key) int {
	return sort.Search(len(r.root.index), func(i int) bool { return r.root.index[i].first > k }) - 1
}

// ref returns the Ref of key i of an index block.
func (r *Reader) ref(x *index, i int) Ref {
	p, id := r.root.split(x.keys[i])
	g, slot := x.group(i)
	return Ref{Pgno: p, TXID: id, Group: x.firstGroup + g, Slot: slot, Sum: x.sums[i]}
}

// Refs yields where the versions lie, in the order of (page, transaction),
// beginning with page from. It reads index blocks only. An error ends it.
func (r *Reader) Refs(from wal.Pgno) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		k := key(from) << 32
		for n := max(r.lastIndex(k), 0); n < len(r.root.index); n++ {
			x, err := r.indexBlock(n)
			if err != nil {
				yield(Ref{}, err)
				return
			}
			i := x.last(k)
			if i < 0 || x.keys[i] < k {
				i++
			}
			for i < len(x.keys) {
				ref := r.ref(x, i)
				end := int(x.ends[ref.Group-x.firstGroup])
				for ; i < end; i++ {
					ref.Pgno, ref.TXID = r.root.split(x.keys[i])
					ref.Sum = x.sums[i]
					if !yield(ref, nil) {
						return
					}
					ref.Slot++
				}
			}
		}
	}
}

// extent is where a group lies in the object.
type extent struct {
	off           int64
	stored, count int
}

// extent returns where a group lies. It panics when there is no such group.
func (r *Reader) extent(group int) (extent, *index, error) {
	if group < 0 || group >= r.root.groups {
		panic(fmt.Sprintf("pack: group %d of %d", group, r.root.groups))
	}
	n := sort.Search(len(r.root.index), func(i int) bool { return r.root.index[i].firstGroup > group }) - 1
	x, err := r.indexBlock(n)
	if err != nil {
		return extent{}, nil, err
	}
	off, stored, count := x.extent(group - x.firstGroup)
	return extent{off, stored, count}, x, nil
}

// Read reads a version that Find or Refs returned into dst, which has the length
// of a page.
func (r *Reader) Read(ref Ref, dst []byte) error {
	if len(dst) != r.root.PageSize {
		panic(fmt.Sprintf("pack: reading a page of %d bytes into %d", r.root.PageSize, len(dst)))
	}
	e, x, err := r.extent(ref.Group)
	if err != nil {
		return err
	}
	i := x.keysBefore(ref.Group-x.firstGroup) + ref.Slot
	if ref.Slot < 0 || ref.Slot >= e.count || x.keys[i] != r.root.key(ref.Pgno, ref.TXID) {
		panic(fmt.Sprintf("pack: %+v is not of %s", ref, r.place.Name))
	}
	v, err := r.memory.Get(e.off, func() (any, int, error) {
		pages, err := r.readGroup(nil, nil, ref.Group, e)
		return pages, len(pages), err
	})
	if err != nil {
		return err
	}
	copy(dst, v.([]byte)[ref.Slot*r.root.PageSize:])
	return r.checkPage(ref, e.off, dst)
}

// checkPage makes sure that page, of the group at off, is what the index says.
func (r *Reader) checkPage(ref Ref, off int64, page []byte) error {
	if pageSum(ref.Pgno, page) != ref.Sum {
		return r.corrupt(off, "group %d does not hold page %d of transaction %d at slot %d", ref.Group, ref.Pgno, ref.TXID, ref.Slot)
	}
	return nil
}

// ReadGroup returns the pages of all versions of a group, one behind the other
// by slot, in dst's memory if there is room, otherwise in new memory. It leaves Memory's groups alone: it
// is for reading everything once.
func (r *Reader) ReadGroup(group int, dst []byte) ([]byte, error) {
	e, _, err := r.extent(group)
	if err != nil {
		return nil, err
	}
	if n := e.count * r.root.PageSize; cap(dst) < n {
		dst = make([]byte, n)
	}
	return r.readGroup(dst, nil, group, e)
}

// readGroup reads and decodes a group as decode does; buf is memory for the
// stored bytes.
func (r *Reader) readGroup(dst, buf []byte, group int, e extent) ([]byte, error) {
	stored, err := r.stored(buf, e.off, e.stored)
	if err != nil {
		return nil, err
	}
	size := e.count * r.root.PageSize
	pages, err := r.decode(dst, stored, e.off, size, fmt.Sprintf("group %d", group))
	if err != nil {
		return nil, err
	}
	if len(pages) != size {
		return nil, r.corrupt(e.off, "group %d has %d bytes, want %d", group, len(pages), size)
	}
	return pages, nil
}
