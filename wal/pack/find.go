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
	if r.root.mapped != nil {
		return r.findMapped(p, max)
	}
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
	if r.root.mapped != nil {
		return r.mappedRefs(from)
	}
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

// extent returns where a group lies, and the index block that tells of it.
func (r *Reader) extent(group int) (Extent, *index, error) {
	if r.root.mapped != nil {
		e, err := r.mappedExtent(group)
		return e, nil, err
	}
	if group < 0 || group >= r.root.groups {
		panic(fmt.Sprintf("pack: group %d of %d", group, r.root.groups))
	}
	n := sort.Search(len(r.root.index), func(i int) bool { return r.root.index[i].firstGroup > group }) - 1
	x, err := r.indexBlock(n)
	if err != nil {
		return Extent{}, nil, err
	}
	off, stored, count := x.extent(group - x.firstGroup)
	return Extent{off, stored, count}, x, nil
}

// Read reads a version that Find or Refs returned into dst, which has the length
// of a page.
func (r *Reader) Read(ref Ref, dst []byte) error {
	if len(dst) != r.root.PageSize {
		panic(fmt.Sprintf("pack: reading a page of %d bytes into %d", r.root.PageSize, len(dst)))
	}
	if r.root.mapped != nil {
		return r.readMapped(ref, dst)
	}
	e, x, err := r.extent(ref.Group)
	if err != nil {
		return err
	}
	i := x.keysBefore(ref.Group-x.firstGroup) + ref.Slot
	if ref.Slot < 0 || ref.Slot >= e.Count || x.keys[i] != r.root.key(ref.Pgno, ref.TXID) {
		panic(fmt.Sprintf("pack: %+v is not of %s", ref, r.place.Name))
	}
	v, err := r.memory.Get(e.Off, func() (any, int, error) {
		pages, err := r.readGroup(nil, nil, ref.Group, e)
		if err != nil {
			return nil, 0, err
		}
		return pages, pages.memory(), nil
	})
	if err != nil {
		return err
	}
	v.(*Pages).Read(ref.Slot, dst)
	return r.checkPage(ref, e.Off, dst)
}

// checkPage makes sure that page, of the group at off, is what the index says.
func (r *Reader) checkPage(ref Ref, off int64, page []byte) error {
	if pageSum(ref.Pgno, page) != ref.Sum {
		return r.corrupt(off, "group %d does not hold page %d of transaction %d at slot %d", ref.Group, ref.Pgno, ref.TXID, ref.Slot)
	}
	return nil
}

// readGroup reads and decodes a group as decodePages does; buf is memory for the
// stored bytes.
func (r *Reader) readGroup(dst, buf []byte, group int, e Extent) (*Pages, error) {
	in, off, err := r.part(e.Off)
	if err != nil {
		return nil, err
	}
	stored, err := in.stored(buf, off, e.Stored)
	if err != nil {
		return nil, err
	}
	return r.decodeGroup(dst, stored, group, e)
}

// decodeGroup decodes the stored bytes of a group as decodePages does.
func (r *Reader) decodeGroup(dst, stored []byte, group int, e Extent) (*Pages, error) {
	r, off, err := r.part(e.Off)
	if err != nil {
		return nil, err
	}
	var pages *Pages
	block, err := r.sealer.Open(stored, r.place, off)
	if err == nil {
		pages, err = decodePages(dst, block, e.Count, r.root.PageSize)
	}
	if err != nil {
		return nil, r.corrupt(off, "group %d: %v", group, err)
	}
	return pages, nil
}
