package pack

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/walback/walback/wal"
)

// MapWriter writes a map, leaf by leaf. It is not safe for concurrent use. A
// MapWriter that failed stays failed.
type MapWriter struct {
	out    *bufio.Writer
	off    int64
	place  Place
	o      WriterOptions
	sealer Sealer
	err    error

	root root
	base *Reader     // the map it goes on from, or nil
	refs map[int]int // to objects, by their numbers
	seen map[*Reader]int
	next int    // number of the next object
	own  int64  // stored bytes of the groups in the map itself
	sum  uint32 // XOR of the checksums of all pages so far
	zero []byte

	leaf  Leaf   // being filled
	pages []byte // of the group of its own being filled
	slots []int  // where in leaf these pages are
	block []byte
	held  heldLeaves
}

// NewMapWriter returns a MapWriter for the database as of the transaction at.
// base is nil, or a map of an earlier transaction: leaves of it can be kept.
func NewMapWriter(w io.Writer, place Place, at wal.TxnInfo, pageSize int, base *Reader, o WriterOptions) (*MapWriter, error) {
	if !wal.ValidPageSize(pageSize) {
		return nil, fmt.Errorf("pack %s: %d is no page size", place.Name, pageSize)
	}
	if o.GroupSize == 0 {
		o.GroupSize = 64 << 10
	}
	o.GroupSize = min(max(o.GroupSize, pageSize), 4<<20)
	if o.Sealer == nil {
		o.Sealer = Checksummed{}
	}
	m := &MapWriter{
		out: bufio.NewWriterSize(w, 16<<10), place: place, o: o, sealer: o.Sealer,
		refs: make(map[int]int), seen: make(map[*Reader]int), next: 2,
	}
	m.root = root{
		Info: Info{
			Kind: Map, PageSize: pageSize, First: at, Last: at, Txns: 1, Mark: wal.Mark{Txn: at, PageSize: pageSize},
		},
		mapped: &mapRoot{self: MapObject{number: 1}},
	}
	m.zero = make([]byte, pageSize)
	if base != nil && base.root.mapped != nil {
		m.goOn(base)
	}
	return m, m.write(appendHeader(nil, Map, pageSize, false))
}

// goOn takes over the objects of an earlier map.
func (m *MapWriter) goOn(base *Reader) {
	b := base.root.mapped
	m.base = base
	self := b.self
	self.Place, self.Size = base.place, base.size
	m.root.mapped.objects = append(slices.Clone(b.objects), self)
	m.next = 1
	for _, o := range m.root.mapped.objects {
		m.refs[o.number] = o.Refs
		m.next = max(m.next, o.number+1)
	}
	m.root.mapped.self.number = m.next
	m.next++
	m.seen[base] = self.number
}

// Object returns the number of the object that r reads, for LeafGroup.
func (m *MapWriter) Object(r *Reader) int {
	if n, ok := m.seen[r]; ok {
		return n
	}
	objects := m.root.mapped.objects
	i := slices.IndexFunc(objects, func(o MapObject) bool { return o.Place == r.place && o.Size == r.size })
	if i < 0 {
		i = len(objects)
		m.root.mapped.objects = append(objects, MapObject{Place: r.place, Size: r.size, number: m.next})
		m.next++
	}
	m.seen[r] = m.root.mapped.objects[i].number
	return m.seen[r]
}

// Add puts page p, of the leaf that is next, into the map itself. The pages of a
// leaf that are added ascend.
func (m *MapWriter) Add(p wal.Pgno, page []byte) error {
	n, i := leafOf(p)
	if m.err == nil && (n != len(m.root.mapped.leaves) || len(page) != m.root.PageSize ||
		m.leaf.Pages[i].Group != 0 || len(m.slots) > 0 && m.slots[len(m.slots)-1] >= i) {
		m.err = fmt.Errorf("pack %s: page %d of %d bytes added to leaf %d, or twice", m.place.Name, p, len(page), len(m.root.mapped.leaves))
	}
	if m.err != nil {
		return m.err
	}
	m.leaf.Pages[i] = LeafPage{Group: -1, Sum: pageSum(p, page)}
	m.pages = append(m.pages, page...)
	m.slots = append(m.slots, i)
	if len(m.pages)+m.root.PageSize > m.o.GroupSize {
		m.err = m.cut()
	}
	return m.err
}

// cut writes the group being filled.
func (m *MapWriter) cut() error {
	if len(m.slots) == 0 {
		return nil
	}
	off := m.off
	stored, err := m.seal(m.pages)
	if err != nil {
		return err
	}
	m.own += int64(stored)
	count := len(m.slots)
	m.leaf.Groups = append(m.leaf.Groups, LeafGroup{m.root.mapped.self.number, Extent{off, stored, count}, count})
	for slot, i := range m.slots {
		m.leaf.Pages[i].Group, m.leaf.Pages[i].Slot = int16(len(m.leaf.Groups)), uint16(slot)
	}
	m.pages, m.slots = m.pages[:0], m.slots[:0]
	return nil
}

// Leaf writes the leaf that is next: the pages that were added, and of l those
// that lie elsewhere. l is the caller's again.
func (m *MapWriter) Leaf(l *Leaf) error {
	if m.err == nil {
		m.err = m.addLeaf(l)
	}
	return m.err
}

func (m *MapWriter) addLeaf(l *Leaf) error {
	if err := m.cut(); err != nil {
		return err
	}
	own := len(m.leaf.Groups)
	if own+len(l.Groups) > 2*LeafPages {
		return fmt.Errorf("pack %s: a leaf of %d groups", m.place.Name, own+len(l.Groups))
	}
	m.leaf.Groups = append(m.leaf.Groups, l.Groups...)
	for i, p := range l.Pages {
		if p.Group == 0 {
			continue
		}
		if m.leaf.Pages[i].Group != 0 {
			return fmt.Errorf("pack %s: a page is in two places", m.place.Name)
		}
		p.Group += int16(own)
		m.leaf.Pages[i] = p
	}
	m.leaf.sort()
	if err := m.release(len(m.root.mapped.leaves)); err != nil {
		return err
	}
	pages, _, sum := m.leaf.tally()
	e := leafEntry{pages: pages, sum: sum}
	if pages > 0 {
		e.object = m.root.mapped.self.number
		m.held.add(len(m.root.mapped.leaves), &m.leaf)
		m.hold(e.object, &m.leaf, 1)
	}
	m.addEntry(e, &m.leaf)
	m.leaf = Leaf{Groups: m.leaf.Groups[:0]}
	if len(m.held.plain) < mostHeld {
		return nil
	}
	return m.writeLeaves()
}

// Keep takes the leaf that is next over from the base as it is.
func (m *MapWriter) Keep() error {
	n := len(m.root.mapped.leaves)
	switch {
	case m.err != nil:
	case m.base == nil || n >= len(m.base.root.mapped.leaves) || len(m.leaf.Groups)+len(m.slots) > 0:
		m.err = fmt.Errorf("pack %s: leaf %d cannot be kept", m.place.Name, n)
	default:
		e := m.base.root.mapped.leaves[n]
		var l *Leaf
		if first, last := m.span(n); e.pages <= int(last-first) { // some pages are zeros: which?
			if l, m.err = m.base.Leaf(n); m.err != nil {
				return m.err
			}
		}
		m.addEntry(e, l)
	}
	return m.err
}

// span is LeafSpan, up to the end of the database.
func (m *MapWriter) span(n int) (first, last wal.Pgno) {
	first, last = LeafSpan(n)
	return first, min(last, m.root.First.Size)
}

// addEntry adds the leaf that is next. l may be nil when it has all its pages.
func (m *MapWriter) addEntry(e leafEntry, l *Leaf) {
	first, last := m.span(len(m.root.mapped.leaves))
	m.sum ^= e.sum
	if e.pages <= int(last-first) {
		for p := first; p <= last; p++ {
			if l.Pages[p-first].Group == 0 {
				m.sum ^= pageSum(p, m.zero)
			}
		}
	}
	m.root.mapped.leaves = append(m.root.mapped.leaves, e)
}

// release forgets what leaf n of the base refers to, which is not kept.
func (m *MapWriter) release(n int) error {
	if m.base == nil || n >= len(m.base.root.mapped.leaves) || m.base.root.mapped.leaves[n].object == 0 {
		return nil
	}
	l, err := m.base.Leaf(n)
	if err != nil {
		return err
	}
	m.hold(m.base.root.mapped.leaves[n].object, l, -1)
	return nil
}

// hold counts the references of a leaf that lies in an object.
func (m *MapWriter) hold(object int, l *Leaf, by int) {
	m.refs[object] += by
	for _, n := range l.objects() {
		m.refs[n] += by
	}
}

// Finish writes what is left, and returns the size of the object. The pages must
// have the checksum of the transaction, which proves that each is the right
// version.
func (m *MapWriter) Finish() (int64, error) {
	if m.err == nil {
		m.err = m.finish()
	}
	if m.err != nil {
		return 0, m.err
	}
	m.err = errFinished
	return m.off, nil
}

// Own returns how many bytes of the map are pages.
func (m *MapWriter) Own() int64 { return m.own }

// Info returns what Open will tell of the map. It is valid after Finish.
func (m *MapWriter) Info() Info { return m.root.Info }

func (m *MapWriter) finish() error {
	r := m.root.mapped
	if len(r.leaves) != LeafCount(m.root.First.Size) || len(m.leaf.Groups)+len(m.slots) > 0 {
		return fmt.Errorf("pack %s: %d leaves of %d, or one that was not ended", m.place.Name, len(r.leaves), LeafCount(m.root.First.Size))
	}
	if err := m.writeLeaves(); err != nil {
		return err
	}
	if m.base != nil { // those of which nothing is left
		for n := len(r.leaves); n < len(m.base.root.mapped.leaves); n++ {
			if err := m.release(n); err != nil {
				return err
			}
		}
	}
	if want := uint32(m.root.First.Checksum); m.sum != want {
		return fmt.Errorf("pack %s: the pages of transaction %d have a checksum that ends in %08x, and not %08x: %w",
			m.place.Name, m.root.First.ID, m.sum, want, ErrCorrupt)
	}
	r.self.Refs = m.refs[r.self.number]
	for i := range r.objects {
		r.objects[i].Refs = m.refs[r.objects[i].number]
	}
	r.objects = slices.DeleteFunc(r.objects, func(o MapObject) bool { return o.Refs == 0 })
	slices.SortFunc(r.objects, func(a, b MapObject) int { return cmp.Compare(a.number, b.number) })
	if err := m.checkObjects(); err != nil {
		return err
	}
	m.root.mapInfo()
	off := m.off
	stored, err := m.seal(m.root.append(nil))
	if err != nil {
		return err
	}
	if err := m.write(appendTrailer(nil, off, stored, m.place)); err != nil {
		return err
	}
	if err := m.out.Flush(); err != nil {
		return fmt.Errorf("pack %s: writing: %w", m.place.Name, err)
	}
	return nil
}

// checkObjects makes sure that what is written can be read again.
func (m *MapWriter) checkObjects() error {
	for _, o := range m.root.mapped.objects {
		if o.number > maxObject || o.Size > maxOffset || o.Refs < 0 || len(o.Place.Generation) != generationLength || len(o.Place.Name) > maxName {
			return fmt.Errorf("pack %s: cannot refer to %s of generation %s as object %d", m.place.Name, o.Place.Name, o.Place.Generation, o.number)
		}
	}
	if n := m.root.mapped.self.number; n > maxObject || m.off > maxOffset {
		return fmt.Errorf("pack %s: cannot be object %d of %d bytes", m.place.Name, n, m.off)
	}
	return nil
}

// seal encodes and writes a block, and returns its stored length.
func (m *MapWriter) seal(plain []byte) (int, error) {
	m.block = appendBlock(m.block[:0], plain, m.o.Raw)
	m.block = m.sealer.Seal(m.block[:0], m.block, m.place, m.off)
	return len(m.block), m.write(m.block)
}

func (m *MapWriter) write(b []byte) error {
	n, err := m.out.Write(b)
	m.off += int64(n)
	if err != nil {
		return fmt.Errorf("pack %s: writing: %w", m.place.Name, err)
	}
	return nil
}
