package pack

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/walback/walback/wal"
)

// LeafPages is how many consecutive pages a leaf of a map tells of: leaf 0 of
// pages 1 to 1024, leaf 1 of those behind them.
const LeafPages = 1024

// A Leaf tells where some consecutive pages lie as of the transaction of a map.
type Leaf struct {
	Groups []LeafGroup // ascending by object and offset, each in use
	Pages  [LeafPages]LeafPage
}

// LeafGroup is a group of any object, and what is needed to read it.
type LeafGroup struct {
	Object int // number of the object in the root of the map
	Extent
	// Share is how many of its versions are of pages of this leaf, whether they
	// are in use or not.
	Share int
}

// LeafPage is where a page lies.
type LeafPage struct {
	Group int16 // in Leaf.Groups, counted from 1; 0: nowhere, the page is zeros
	Slot  uint16
	Sum   uint32 // the lower half of the page's checksum
}

// leafOf returns the leaf that page p is in, and its place in it.
func leafOf(p wal.Pgno) (leaf, i int) { return int((p - 1) / LeafPages), int((p - 1) % LeafPages) }

// LeafSpan returns the first and the last page of leaf n.
func LeafSpan(n int) (first, last wal.Pgno) {
	first = wal.Pgno(n)*LeafPages + 1
	return first, first + (LeafPages - 1)
}

// memory is the size of a decoded leaf in bytes.
func (l *Leaf) memory() int { return 8*LeafPages + 48*len(l.Groups) + 64 }

// tally returns how many pages are somewhere, the place of the last of them, and
// the XOR of their checksums.
func (l *Leaf) tally() (pages, last int, sum uint32) {
	for i, p := range l.Pages {
		if p.Group != 0 {
			pages++
			last = i
			sum ^= p.Sum
		}
	}
	return pages, last, sum
}

// objects returns the numbers of the objects that l refers to, ascending.
func (l *Leaf) objects() []int {
	var all []int
	for _, g := range l.Groups {
		if n := len(all); n == 0 || all[n-1] != g.Object {
			all = append(all, g.Object)
		}
	}
	return all
}

// leafRun is pages in a row that lie in slots in a row.
type leafRun struct{ skipped, length, group, slot int }

// runs returns what l says of its pages as the fewest runs.
func (l *Leaf) runs() []leafRun {
	var all []leafRun
	skipped := 0
	for _, p := range l.Pages {
		if p.Group == 0 {
			skipped++
			continue
		}
		g, slot := int(p.Group)-1, int(p.Slot)
		if n := len(all) - 1; n >= 0 && skipped == 0 && all[n].group == g && all[n].slot+all[n].length == slot {
			all[n].length++
			continue
		}
		all = append(all, leafRun{skipped, 1, g, slot})
		skipped = 0
	}
	return all
}

// append appends the plaintext of l: by column, first the groups, then the runs
// of pages, then the checksums of the pages.
func (l *Leaf) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(l.Groups)))
	object, end := 0, int64(0)
	for _, g := range l.Groups {
		b = binary.AppendUvarint(b, uint64(g.Object-object))
		object = g.Object
	}
	object = 0
	for _, g := range l.Groups {
		if g.Object != object {
			object, end = g.Object, 0
		}
		b = binary.AppendUvarint(b, uint64(g.Off-end))
		end = g.Off + int64(g.Stored)
	}
	for _, g := range l.Groups {
		b = binary.AppendUvarint(b, uint64(g.Stored))
	}
	for _, g := range l.Groups {
		b = binary.AppendUvarint(b, uint64(g.Count))
	}
	for _, g := range l.Groups {
		b = binary.AppendUvarint(b, uint64(g.Share))
	}
	runs := l.runs()
	b = binary.AppendUvarint(b, uint64(len(runs)))
	for _, r := range runs {
		b = binary.AppendUvarint(b, uint64(r.skipped))
	}
	for _, r := range runs {
		b = binary.AppendUvarint(b, uint64(r.length-1))
	}
	for _, r := range runs {
		b = binary.AppendUvarint(b, uint64(r.group))
	}
	for _, r := range runs {
		b = binary.AppendUvarint(b, uint64(r.slot))
	}
	for _, p := range l.Pages {
		if p.Group != 0 {
			b = binary.BigEndian.AppendUint32(b, p.Sum)
		}
	}
	return b
}

// parseLeaf decodes a leaf of pages of pageSize bytes. It accepts exactly what
// Leaf.append writes.
func parseLeaf(b []byte, pageSize, overhead int) (*Leaf, bool) {
	f := &fields{b: b}
	l := &Leaf{}
	f.leafGroups(l, pageSize, overhead)
	f.leafRuns(l)
	for i := range l.Pages {
		if l.Pages[i].Group != 0 {
			l.Pages[i].Sum = f.uint32()
		}
	}
	if !f.done() || !l.used() {
		return nil, false
	}
	return l, true
}

// leafGroups takes the columns of the groups.
func (f *fields) leafGroups(l *Leaf, pageSize, overhead int) {
	l.Groups = make([]LeafGroup, f.uvarint(LeafPages))
	object := 0
	for i := range l.Groups {
		object += int(f.uvarint(uint64(maxObject - object)))
		l.Groups[i].Object = object
	}
	for i := range l.Groups {
		l.Groups[i].Off = int64(f.uvarint(maxOffset)) // from the end of the one in front
	}
	for i := range l.Groups {
		l.Groups[i].Stored = int(f.uvarint(maxGroup + 1 + maxOverhead))
	}
	for i := range l.Groups {
		l.Groups[i].Count = int(f.uvarint(uint64(maxGroup / pageSize)))
	}
	object, end := 0, int64(0)
	for i := range l.Groups {
		g := &l.Groups[i]
		g.Share = int(f.uvarint(uint64(g.Count)))
		if g.Object != object {
			object, end = g.Object, 0
		}
		g.Off += end
		end = g.Off + int64(g.Stored)
		if g.Object == 0 || g.Off < headerSize || end > maxOffset || g.Stored == 0 || g.Share == 0 ||
			g.Stored > g.Count*pageSize+1+overhead {
			f.fail()
			return
		}
	}
}

// leafRuns takes the columns of the runs.
func (f *fields) leafRuns(l *Leaf) {
	runs := make([]leafRun, f.uvarint(LeafPages))
	for i := range runs {
		runs[i].skipped = int(f.uvarint(LeafPages))
	}
	for i := range runs {
		runs[i].length = int(f.uvarint(LeafPages)) + 1
	}
	for i := range runs {
		runs[i].group = int(f.uvarint(LeafPages))
	}
	at := 0
	for i := range runs {
		r := &runs[i]
		r.slot = int(f.uvarint(math.MaxUint16))
		at += r.skipped
		if f.bad || r.group >= len(l.Groups) || at+r.length > LeafPages || r.slot+r.length > l.Groups[r.group].Count {
			f.fail()
			return
		}
		if i > 0 && r.skipped == 0 && runs[i-1].group == r.group && runs[i-1].slot+runs[i-1].length == r.slot {
			f.fail() // it is one run with the one in front
			return
		}
		for k := range r.length {
			l.Pages[at+k] = LeafPage{Group: int16(r.group + 1), Slot: uint16(r.slot + k)}
		}
		at += r.length
	}
}

// used reports whether every group holds a page of the leaf, and no more of them
// than its share.
func (l *Leaf) used() bool {
	uses := make([]int, len(l.Groups)+1)
	for _, p := range l.Pages {
		uses[p.Group]++
	}
	for i, g := range l.Groups {
		if uses[i+1] == 0 || uses[i+1] > g.Share {
			return false
		}
	}
	return true
}

// sort puts the groups in order and drops those that hold no page.
func (l *Leaf) sort() {
	uses := make([]bool, len(l.Groups)+1)
	for _, p := range l.Pages {
		uses[p.Group] = true
	}
	order := make([]int, 0, len(l.Groups))
	for i := range l.Groups {
		if uses[i+1] {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &l.Groups[a], &l.Groups[b]
		return cmp.Or(cmp.Compare(x.Object, y.Object), cmp.Compare(x.Off, y.Off))
	})
	groups := make([]LeafGroup, len(order))
	now := make([]int16, len(l.Groups)+1)
	for i, old := range order {
		groups[i] = l.Groups[old]
		now[old+1] = int16(i + 1)
	}
	l.Groups = groups
	for i := range l.Pages {
		l.Pages[i].Group = now[l.Pages[i].Group]
	}
}
