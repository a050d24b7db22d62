package pack

import (
	"encoding/binary"
	"math"

	"github.com/walback/walback/wal"
)

// Groups of a map lie in several objects. Within this package one number says
// where: the object's above, the offset in it below. An ordinary pack is object
// 0 of itself.
const (
	offsetBits = 44
	maxOffset  = 1<<offsetBits - 1
	maxObject  = 1<<(63-offsetBits) - 1
)

// MapObject is an object that a map refers to.
type MapObject struct {
	Place Place
	Size  int64 // bytes
	// Refs is how many leaves lie in it, and refer to groups of it, together.
	Refs int

	// number is its name in the leaves. It is the same in all maps that have
	// leaves in common which refer to it.
	number int
}

// mapRoot is what the root of a map tells besides Info.
type mapRoot struct {
	self    MapObject   // number and Refs only
	objects []MapObject // the others, ascending by number
	leaves  []leafEntry // one for every LeafPages pages of the database
}

// maxLeaf bounds the plaintext of a leaf, in bytes: it has at most LeafPages
// groups, runs and checksums.
const maxLeaf = 64 << 10

// leafEntry is what a root knows of a leaf.
type leafEntry struct {
	object int // 0: it has no pages, and is nowhere
	off    int64
	stored int
	pages  int
	sum    uint32 // XOR of those of its pages
}

// LeafCount returns how many leaves a map of a database of size pages has.
func LeafCount(size wal.Pgno) int { return int((uint64(size) + LeafPages - 1) / LeafPages) }

func (m *mapRoot) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(m.self.number))
	b = binary.AppendUvarint(b, uint64(m.self.Refs))
	b = binary.AppendUvarint(b, uint64(len(m.objects)))
	number := 0
	for _, o := range m.objects {
		b = binary.AppendUvarint(b, uint64(o.number-number))
		b = append(b, o.Place.Generation...)
		b = binary.AppendUvarint(b, uint64(len(o.Place.Name)))
		b = append(b, o.Place.Name...)
		b = binary.AppendUvarint(b, uint64(o.Size))
		b = binary.AppendUvarint(b, uint64(o.Refs))
		number = o.number
	}
	ends := map[int]int64{}
	for _, e := range m.leaves {
		b = binary.AppendUvarint(b, uint64(e.object))
		if e.object == 0 {
			continue
		}
		b = binary.AppendUvarint(b, uint64(e.off-ends[e.object]))
		b = binary.AppendUvarint(b, uint64(e.stored))
		b = binary.AppendUvarint(b, uint64(e.pages))
		b = binary.BigEndian.AppendUint32(b, e.sum)
		ends[e.object] = e.off + int64(e.stored)
	}
	return b
}

// generationLength is that of a generation's name, maxName the most of the rest
// of a key.
const (
	generationLength = 16
	maxName          = 100
)

// mapRoot takes what is behind the log position in the root of a map, which
// begins at end.
func (f *fields) mapRoot(r *root, end int64) {
	m := &mapRoot{}
	r.mapped = m
	m.self.number = int(f.uvarint(maxObject))
	m.self.Refs = int(f.uvarint(math.MaxInt32))
	sizes := map[int]int64{m.self.number: end}
	n := f.uvarint(uint64(len(f.b)) / (generationLength + 4)) // an entry has four numbers
	m.objects = make([]MapObject, 0, n)
	number := 0
	for range n {
		delta := int(f.uvarint(uint64(maxObject - number)))
		number += delta
		o := MapObject{number: number}
		o.Place.Generation = f.text(generationLength)
		o.Place.Name = f.text(int(f.uvarint(maxName)))
		o.Size = int64(f.uvarint(maxOffset))
		o.Refs = int(f.uvarint(math.MaxInt32))
		if f.bad || delta == 0 || number == m.self.number || o.Refs == 0 {
			f.fail()
			return
		}
		m.objects = append(m.objects, o)
		sizes[number] = o.Size
	}
	if m.self.number == 0 {
		f.fail()
	}
	f.leafEntries(r, sizes)
}

// leafEntries takes what a root tells of the leaves, which lie within objects of
// the given sizes.
func (f *fields) leafEntries(r *root, sizes map[int]int64) {
	n := LeafCount(r.First.Size)
	if f.bad || n > len(f.b) {
		f.fail()
		return
	}
	r.mapped.leaves = make([]leafEntry, n)
	ends := make(map[int]int64)
	for i := range r.mapped.leaves {
		e := &r.mapped.leaves[i]
		if e.object = int(f.uvarint(maxObject)); e.object == 0 {
			continue
		}
		size, known := sizes[e.object]
		e.off = ends[e.object] + int64(f.uvarint(maxOffset))
		e.stored = int(f.uvarint(maxLeaf + 1 + maxOverhead))
		e.pages = int(f.uvarint(LeafPages))
		e.sum = f.uint32()
		end := e.off + int64(e.stored)
		if f.bad || !known || e.off < headerSize || end > size || e.stored == 0 || e.pages == 0 {
			f.fail()
			return
		}
		ends[e.object] = end
	}
	told := r.Info
	r.mapInfo()
	if r.Info != told {
		f.fail()
	}
}

// mapInfo fills in what Info tells of the pages, as far as the leaves tell it.
func (r *root) mapInfo() {
	r.Versions, r.MinPgno, r.MaxPgno = 0, 0, 0
	for n, e := range r.mapped.leaves {
		if e.object == 0 {
			continue
		}
		first, last := LeafSpan(n)
		if r.Versions == 0 {
			r.MinPgno = first
		}
		r.Versions += int64(e.pages)
		r.MaxPgno = min(last, r.First.Size)
	}
}

// text takes n bytes.
func (f *fields) text(n int) string {
	if len(f.b) < n {
		f.fail()
		return ""
	}
	s := string(f.b[:n])
	f.b = f.b[n:]
	return s
}
