package pack

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"

	"github.com/walback/walback/wal"
)

// A map is read like any pack. Where one tells of its groups in index blocks,
// the map has leaves, and leaves and groups may lie in other objects: earlier
// maps, snapshots, segments. These are read without looking at their ends.

// groupsOf is the number of the first group of a leaf: groups of a map are
// numbered leaf by leaf, so one that two leaves refer to has two numbers. Where
// they lie tells that they are one.
func groupsOf(leaf int) int { return leaf * LeafPages }

// Objects returns the objects other than itself that a map refers to, nil when
// it is no map.
func (r *Reader) Objects() []MapObject {
	if r.root.mapped == nil {
		return nil
	}
	return slices.Clone(r.root.mapped.objects)
}

// Leaf returns leaf n of a map. It must not be changed. A leaf without pages is
// not stored.
func (r *Reader) Leaf(n int) (*Leaf, error) {
	e := r.root.mapped.leaves[n]
	if e.object == 0 {
		return &Leaf{}, nil
	}
	in, err := r.object(e.object)
	if err != nil {
		return nil, err
	}
	v, err := in.memory.Get(e.off, func() (any, int, error) {
		what := fmt.Sprintf("leaf %d", n)
		leaves := r.root.mapped.leaves
		begin, end := around(n, len(leaves), leavesAround, func(i int) (int64, int, bool) {
			return leaves[i].off, leaves[i].stored, leaves[i].object == e.object
		})
		stored, err := in.storedAround(e.off, e.stored, begin, end)
		if err != nil {
			return nil, 0, err
		}
		plain, err := in.decode(nil, stored, e.off, maxLeaf, what)
		if err != nil {
			return nil, 0, err
		}
		l, ok := parseLeaf(plain, r.root.PageSize, r.sealer.Overhead())
		if !ok {
			return nil, 0, in.corrupt(e.off, "%s makes no sense", what)
		}
		return l, l.memory(), nil
	})
	if err != nil {
		return nil, err
	}
	l, ok := v.(*Leaf)
	if !ok {
		return nil, in.corrupt(e.off, "leaf %d is something else", n)
	}
	first, _ := LeafSpan(n)
	if pages, last, sum := l.tally(); pages != e.pages || sum != e.sum || first+wal.Pgno(last) > r.root.First.Size {
		return nil, in.corrupt(e.off, "leaf %d is not the one that %s tells of", n, r.place.Name)
	}
	return l, nil
}

// object returns object number of a map for reading blocks. It is not opened.
func (r *Reader) object(number int) (*Reader, error) {
	if number == 0 || number == r.root.mapped.self.number {
		return r, nil
	}
	if o, ok := r.others.Load(number); ok {
		return o.(*Reader), nil
	}
	all := r.root.mapped.objects
	i, ok := slices.BinarySearchFunc(all, number, func(o MapObject, n int) int { return cmp.Compare(o.number, n) })
	if !ok {
		return nil, r.corrupt(r.rootAt, "a leaf refers to object %d, which the root does not know", number)
	}
	o := all[i]
	if r.elsewhere == nil {
		return nil, fmt.Errorf("generation %s: %s lies partly in %s of generation %s, which there is no way to read",
			r.place.Generation, r.place.Name, o.Place.Name, o.Place.Generation)
	}
	src, memory := r.elsewhere(o.Place, o.Size)
	if memory == nil {
		memory = &ownMemory{metaAt: math.MaxInt64}
	}
	other := &Reader{
		src: src, size: o.Size, place: o.Place, sealer: r.sealer, memory: memory,
		root: &root{Info: Info{PageSize: r.root.PageSize}}, tailAt: o.Size,
	}
	actual, _ := r.others.LoadOrStore(number, other)
	return actual.(*Reader), nil
}

// part returns the Reader of the object in which off lies, and the offset there.
func (r *Reader) part(off int64) (*Reader, int64, error) {
	if off <= maxOffset {
		return r, off, nil
	}
	in, err := r.object(int(off >> offsetBits))
	return in, off & maxOffset, err
}

// extent returns where the group lies, as part takes it.
func (g LeafGroup) extent() Extent {
	e := g.Extent
	e.Off |= int64(g.Object) << offsetBits
	return e
}

// findMapped is Find in a map. It reads at most one leaf.
func (r *Reader) findMapped(p wal.Pgno, max wal.TXID) (Ref, bool, error) {
	if p == 0 || p > r.root.First.Size || max < r.root.First.ID {
		return Ref{}, false, nil
	}
	n, i := leafOf(p)
	l, err := r.Leaf(n)
	if err != nil {
		return Ref{}, false, err
	}
	return r.mappedRef(n, l, i), l.Pages[i].Group != 0, nil
}

// mappedRef returns the Ref of page i of leaf n.
func (r *Reader) mappedRef(n int, l *Leaf, i int) Ref {
	p := l.Pages[i]
	first, _ := LeafSpan(n)
	return Ref{
		Pgno: first + wal.Pgno(i), TXID: r.root.First.ID,
		Group: groupsOf(n) + int(p.Group) - 1, Slot: int(p.Slot), Sum: p.Sum,
	}
}

// mappedRefs is Refs of a map. Leaves without pages cost nothing.
func (r *Reader) mappedRefs(from wal.Pgno) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		n, i := leafOf(max(from, 1))
		for ; n < len(r.root.mapped.leaves); n, i = n+1, 0 {
			l, err := r.Leaf(n)
			if err != nil {
				yield(Ref{}, err)
				return
			}
			for ; i < LeafPages; i++ {
				if l.Pages[i].Group != 0 && !yield(r.mappedRef(n, l, i), nil) {
					return
				}
			}
		}
	}
}

// mappedExtent is extent in a map.
func (r *Reader) mappedExtent(group int) (Extent, error) {
	n, i := group/LeafPages, group%LeafPages
	if group < 0 || n >= len(r.root.mapped.leaves) {
		panic(fmt.Sprintf("pack: group %d of a map of %d leaves", group, len(r.root.mapped.leaves)))
	}
	l, err := r.Leaf(n)
	if err != nil {
		return Extent{}, err
	}
	if i >= len(l.Groups) {
		panic(fmt.Sprintf("pack: group %d of leaf %d, which has %d", i, n, len(l.Groups)))
	}
	g := l.Groups[i]
	in, err := r.object(g.Object)
	if err != nil {
		return Extent{}, err
	}
	limit := in.size
	if in == r {
		limit = r.rootAt
	}
	if g.Off+int64(g.Stored) > limit {
		return Extent{}, in.corrupt(g.Off, "leaf %d has a group here that goes on behind the end", n)
	}
	return g.extent(), nil
}

// readMapped is Read in a map.
func (r *Reader) readMapped(ref Ref, dst []byte) error {
	e, err := r.mappedExtent(ref.Group)
	if err != nil {
		return err
	}
	if ref.Slot < 0 || ref.Slot >= e.Count {
		panic(fmt.Sprintf("pack: %+v is not of %s", ref, r.place.Name))
	}
	in, off, err := r.part(e.Off)
	if err != nil {
		return err
	}
	v, err := in.memory.Get(off, func() (any, int, error) {
		pages, err := r.readGroup(nil, nil, ref.Group, e)
		if err != nil {
			return nil, 0, err
		}
		return pages, pages.memory(), nil
	})
	if err != nil {
		return err
	}
	pages, ok := v.(*Pages)
	if !ok || pages.count() != e.Count {
		return in.corrupt(off, "no group of %d pages is here", e.Count)
	}
	pages.Read(ref.Slot, dst)
	return in.checkPage(ref, off, dst)
}

// Elsewhere returns what to read other objects from that a map refers to, and
// where to keep their blocks; a nil Memory keeps one group.
type Elsewhere func(place Place, size int64) (io.ReaderAt, Memory)

// verifyRefs counts what the leaves of a map refer to, and compares it with the
// root.
func (r *Reader) verifyRefs() error {
	m := r.root.mapped
	refs := make(map[int]int)
	for n, e := range m.leaves {
		if e.object == 0 {
			continue
		}
		l, err := r.Leaf(n)
		if err != nil {
			return err
		}
		refs[e.object]++
		for _, o := range l.objects() {
			refs[o]++
		}
	}
	for _, o := range append([]MapObject{m.self}, m.objects...) {
		if refs[o.number] != o.Refs {
			return r.corrupt(r.rootAt, "object %d is referred to %d times, and %d by the root", o.number, refs[o.number], o.Refs)
		}
	}
	return nil
}

// LeafGroup returns what a leaf that refers to the group says of it. Of a map it
// is what its own leaf says. Of other packs, Object and Share are missing.
func (r *Reader) LeafGroup(group int) (LeafGroup, error) {
	if r.root.mapped == nil {
		e, _, err := r.extent(group)
		return LeafGroup{Extent: e}, err
	}
	l, err := r.Leaf(group / LeafPages)
	if err != nil {
		return LeafGroup{}, err
	}
	return l.Groups[group%LeafPages], nil
}
