package pack

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/walback/walback/wal"
)

// stored is an object as it is stored.
type stored struct {
	place Place
	bytes []byte
}

// mapped is a database that maps are made of, and the objects of it so far.
type mapped struct {
	txn     wal.TxnInfo
	pages   [][]byte
	objects map[Place]stored
}

const mappedPage = 512

// newMapped makes up a database of n pages.
func newMapped(r *rand.Rand, n int) *mapped {
	m := &mapped{txn: wal.TxnInfo{ID: 3, Time: 1_700_000_000_000_000, Size: wal.Pgno(n)}, objects: map[Place]stored{}}
	for i := range n {
		m.pages = append(m.pages, randomPage(r, mappedPage))
		m.txn.Checksum ^= wal.PageSum(wal.Pgno(i+1), m.pages[i])
	}
	return m
}

func (m *mapped) mark() wal.Mark { return wal.Mark{Txn: m.txn, PageSize: mappedPage} }

func (m *mapped) elsewhere(p Place, size int64) (io.ReaderAt, Memory) {
	return bytes.NewReader(m.objects[p].bytes), nil
}

// open opens one of the objects.
func (m *mapped) open(t testing.TB, o stored) (*Reader, error) {
	t.Helper()
	return Open(bytes.NewReader(o.bytes), int64(len(o.bytes)), o.place, ReaderOptions{Elsewhere: m.elsewhere})
}

func (m *mapped) mustOpen(t testing.TB, o stored) *Reader {
	t.Helper()
	r, err := m.open(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (m *mapped) put(place Place, b *bytes.Buffer) stored {
	m.objects[place] = stored{place, b.Bytes()}
	return m.objects[place]
}

// snapshot stores the whole database.
func (m *mapped) snapshot(t testing.TB, place Place) stored {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, Snapshot, mappedPage, place, WriterOptions{GroupSize: 8 * mappedPage})
	for i, page := range m.pages {
		if err := w.Add(wal.Pgno(i+1), m.txn.ID, page); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish([]wal.TxnInfo{m.txn}, m.mark()); err != nil {
		t.Fatal(err)
	}
	return m.put(place, &b)
}

// commit has the next transaction write some pages, and stores it.
func (m *mapped) commit(t testing.TB, r *rand.Rand, place Place, pages ...wal.Pgno) stored {
	t.Helper()
	m.txn.ID, m.txn.Time, m.txn.Pages = m.txn.ID+1, m.txn.Time+1, wal.Pgno(len(pages))
	var b bytes.Buffer
	w := NewWriter(&b, Segment, mappedPage, place, WriterOptions{})
	for _, p := range pages {
		m.txn.Checksum ^= wal.PageSum(p, m.pages[p-1])
		m.pages[p-1] = randomPage(r, mappedPage)
		m.txn.Checksum ^= wal.PageSum(p, m.pages[p-1])
		if err := w.Add(p, m.txn.ID, m.pages[p-1]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish([]wal.TxnInfo{m.txn}, m.mark()); err != nil {
		t.Fatal(err)
	}
	return m.put(place, &b)
}

// store stores a map of the database: leaves of base, a map, that segments do
// not touch are kept; of the others the pages that own chooses are written into
// it, and what segments do not have is base's.
func (m *mapped) store(t testing.TB, place Place, base *Reader, own func(wal.Pgno) bool, segments ...*Reader) stored {
	t.Helper()
	var b bytes.Buffer
	w, err := NewMapWriter(&b, place, m.txn, mappedPage, base, WriterOptions{GroupSize: 8 * mappedPage})
	if err != nil {
		t.Fatal(err)
	}
	for n := range LeafCount(m.txn.Size) {
		if base != nil && base.Info().Kind == Map && !touched(t, n, segments) {
			err = w.Keep()
		} else {
			var l *Leaf
			if l, err = m.leaf(t, n, w, base, own, segments); err == nil {
				err = w.Leaf(l)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	size, err := w.Finish()
	if err != nil || size != int64(b.Len()) {
		t.Fatalf("Finish: %d bytes of %d, %v", size, b.Len(), err)
	}
	o := m.put(place, &b)
	if got := m.mustOpen(t, o).Info(); got != w.Info() {
		t.Fatalf("written %+v, read %+v", w.Info(), got)
	}
	return o
}

func touched(t testing.TB, n int, segments []*Reader) bool {
	first, last := LeafSpan(n)
	for _, s := range segments {
		for ref, err := range s.Refs(first) {
			if err != nil {
				t.Fatal(err)
			}
			if ref.Pgno <= last {
				return true
			}
			break
		}
	}
	return false
}

func (m *mapped) leaf(t testing.TB, n int, w *MapWriter, base *Reader, own func(wal.Pgno) bool, segments []*Reader) (*Leaf, error) {
	l := &Leaf{}
	type in struct {
		r     *Reader
		group int
	}
	groups := map[in]int16{}
	first, last := LeafSpan(n)
	for p := first; p <= min(last, m.txn.Size); p++ {
		if base == nil || own(p) {
			if err := w.Add(p, m.pages[p-1]); err != nil {
				return nil, err
			}
			continue
		}
		for _, r := range append(segments, base) {
			ref, ok, err := r.Find(p, wal.MaxTXID)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				continue
			}
			at, have := groups[in{r, ref.Group}]
			if !have {
				g, err := r.LeafGroup(ref.Group)
				if err != nil {
					t.Fatal(err)
				}
				if g.Object == 0 {
					g.Object, g.Share = w.Object(r), g.Count
				}
				l.Groups = append(l.Groups, g)
				at = int16(len(l.Groups))
				groups[in{r, ref.Group}] = at
			}
			l.Pages[p-first] = LeafPage{Group: at, Slot: uint16(ref.Slot), Sum: ref.Sum}
			break
		}
	}
	return l, nil
}

// check compares every page of a map with the database.
func (m *mapped) check(t testing.TB, r *Reader) {
	t.Helper()
	if err := r.Verify(); err != nil {
		t.Fatal(err)
	}
	page := make([]byte, mappedPage)
	for i, want := range m.pages {
		ref, ok, err := r.Find(wal.Pgno(i+1), wal.MaxTXID)
		if err == nil && ok {
			err = r.Read(ref, page)
		}
		if err != nil || !ok || !bytes.Equal(page, want) {
			t.Fatalf("page %d: found %t, %v, or it differs", i+1, ok, err)
		}
	}
}

// mappedCorpus returns a snapshot, two segments and two maps.
func mappedCorpus(t testing.TB) []stored {
	r := rand.New(rand.NewPCG(21, 21))
	place := func(name string) Place { return Place{testPlace.Generation, name} }
	m := newMapped(r, 1030)
	base := m.snapshot(t, place("map-base"))
	one := m.commit(t, r, place("map-one"), 1, 5, 6, 700, 1025, 1030)
	own := func(p wal.Pgno) bool { return p >= 8 && p <= 20 }
	first := m.store(t, place("map-first"), m.mustOpen(t, base), own, m.mustOpen(t, one))
	two := m.commit(t, r, place("map-two"), 6, 9, 1000)
	second := m.store(t, place("map-second"), m.mustOpen(t, first), func(p wal.Pgno) bool { return p == 9 }, m.mustOpen(t, two))
	m.check(t, m.mustOpen(t, second))
	return []stored{base, one, first, two, second}
}

// randomLeaf makes up a leaf.
func randomLeaf(r *rand.Rand) *Leaf {
	l := &Leaf{}
	off := int64(headerSize)
	for i := range 1 + r.IntN(5) {
		l.Groups = append(l.Groups, LeafGroup{Object: 1 + i/2*3, Extent: Extent{off, 100 + r.IntN(99), 16}, Share: 16})
		off += int64(200 + r.IntN(99))
	}
	for i := range l.Pages {
		if r.IntN(3) > 0 && i < 70 {
			g := min(i/16, len(l.Groups)-1)
			l.Pages[i] = LeafPage{Group: int16(g + 1), Slot: uint16(i % 16), Sum: r.Uint32()}
		}
	}
	l.sort()
	for i := range l.Groups {
		l.Groups[i].Share = 16
	}
	return l
}

// TestMap: maps over snapshots, segments and maps show the database, and count
// what they refer to.
func TestMap(t *testing.T) {
	r := rand.New(rand.NewPCG(22, 22))
	m := newMapped(r, 3*LeafPages-10)
	place := func(name string) Place { return Place{testPlace.Generation, name} }
	last := m.mustOpen(t, m.snapshot(t, place("base")))
	for i := range 6 {
		var pages []wal.Pgno
		for p := wal.Pgno(1 + r.IntN(40)); p <= m.txn.Size; p += 1 + wal.Pgno(r.IntN(900)) {
			if i%2 == 0 || p <= LeafPages {
				pages = append(pages, p)
			}
		}
		name := m.txn.ID.String()
		s := m.mustOpen(t, m.commit(t, r, place("wal/"+name), pages...))
		old := last
		last = m.mustOpen(t, m.store(t, place("map/"+name), last, func(p wal.Pgno) bool { return p%50 == wal.Pgno(i) }, s))
		m.check(t, last)
		if i%2 == 1 && last.Size() > old.Size() {
			t.Errorf("map %d, of one leaf of three, has %d bytes, and the one before %d", i, last.Size(), old.Size())
		}
	}
	all := m.store(t, place("map/all"), nil, nil)
	r2 := m.mustOpen(t, all)
	m.check(t, r2)
	if len(r2.Objects()) != 0 {
		t.Errorf("a map of all pages refers to %v", r2.Objects())
	}
}

// TestMapProved: a map of which a page is not that of its transaction is not
// finished; one that refers to an object which is not the one it was made of is
// found out wherever that matters.
func TestMapProved(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 23))
	m := newMapped(r, 40)
	base := m.snapshot(t, Place{testPlace.Generation, "base"})
	var b bytes.Buffer
	m.commit(t, r, Place{testPlace.Generation, "wal/1"}, 7)
	// Page 7 is looked for in the snapshot alone.
	old := m.mustOpen(t, base)
	w, err := NewMapWriter(&b, testPlace, m.txn, mappedPage, nil, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := m.leaf(t, 0, w, old, func(wal.Pgno) bool { return false }, nil)
	if err == nil {
		err = w.Leaf(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "checksum") {
		t.Fatalf("a map with an old page: %v", err)
	}

	m = newMapped(r, 40)
	base = m.snapshot(t, Place{testPlace.Generation, "base"})
	made := m.mustOpen(t, m.store(t, testPlace, m.mustOpen(t, base), func(wal.Pgno) bool { return false }))
	other := newMapped(r, 40).snapshot(t, base.place)
	m.objects[base.place] = other
	page := make([]byte, mappedPage)
	for p := wal.Pgno(1); p <= 40; p++ {
		ref, ok, err := made.Find(p, wal.MaxTXID)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if err := made.Read(ref, page); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("page %d of another database: %v", p, err)
		}
	}
	if err := made.Verify(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Verify: %v", err)
	}
	m.objects = nil
	alone, err := Open(bytes.NewReader(made.tail), int64(len(made.tail)), testPlace, ReaderOptions{})
	if err == nil {
		var ref Ref
		ref, _, err = alone.Find(1, wal.MaxTXID)
		if err == nil {
			err = alone.Read(ref, page)
		}
	}
	if err == nil || !strings.Contains(err.Error(), "no way to read") {
		t.Errorf("a map without what it refers to: %v", err)
	}
}

// TestMapDamage flips bits here and there in a map and in what it refers to: nothing wrong is ever returned.
func TestMapDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(24, 24))
	m := newMapped(r, 60)
	place := func(name string) Place { return Place{testPlace.Generation, name} }
	base := m.snapshot(t, place("base"))
	s := m.commit(t, r, place("wal/1"), 3, 30, 60)
	first := m.store(t, place("first"), m.mustOpen(t, base), func(p wal.Pgno) bool { return p > 50 && p < 60 }, m.mustOpen(t, s))
	m.store(t, testPlace, m.mustOpen(t, first), func(p wal.Pgno) bool { return p == 5 })
	seen := 0
	page := make([]byte, mappedPage)
	for _, o := range m.objects {
		for i := r.IntN(5); i < len(o.bytes); i += 1 + r.IntN(9) {
			o.bytes[i] ^= 1 << (i % 8)
			made, err := m.open(t, m.objects[testPlace])
			for p := wal.Pgno(1); err == nil && p <= m.txn.Size; p++ {
				var ref Ref
				var ok bool
				if ref, ok, err = made.Find(p, wal.MaxTXID); err == nil && ok {
					err = made.Read(ref, page)
				}
				if err == nil && (!ok || !bytes.Equal(page, m.pages[p-1])) {
					t.Fatalf("byte %d of %s damaged: page %d is wrong, and no error", i, o.place.Name, p)
				}
			}
			if err != nil {
				seen++
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("byte %d of %s damaged: %v", i, o.place.Name, err)
				}
			}
			o.bytes[i] ^= 1 << (i % 8)
		}
	}
	if seen < 1000 {
		t.Errorf("only %d errors", seen)
	}
}

// TestMapWriterRefuses: what does not make a map fails, and stays failed.
func TestMapWriterRefuses(t *testing.T) {
	m := newMapped(rand.New(rand.NewPCG(25, 25)), 2000)
	for what, do := range map[string]func(w *MapWriter) error{
		"a page of another leaf":      func(w *MapWriter) error { return w.Add(1500, m.pages[0]) },
		"a page of another size":      func(w *MapWriter) error { return w.Add(1, m.pages[0][:100]) },
		"a page twice":                func(w *MapWriter) error { return errors.Join(w.Add(2, m.pages[1]), w.Add(2, m.pages[1])) },
		"a leaf of no earlier map":    func(w *MapWriter) error { return w.Keep() },
		"fewer leaves than there are": func(w *MapWriter) error { return w.Leaf(&Leaf{}) },
	} {
		w, err := NewMapWriter(io.Discard, testPlace, m.txn, mappedPage, nil, WriterOptions{})
		if err != nil {
			t.Fatal(err)
		}
		first := do(w)
		_, err = w.Finish()
		if err == nil || first != nil && !strings.Contains(first.Error(), err.Error()) {
			t.Errorf("%s: %v, then %v", what, first, err)
		}
	}
	if _, err := NewMapWriter(&short{3}, testPlace, m.txn, mappedPage, nil, WriterOptions{}); err != nil {
		t.Error(err) // nothing is written so early
	}
	// More maps, each of the one before, than a leaf can tell apart.
	last, err := NewMapWriter(io.Discard, testPlace, wal.TxnInfo{ID: 1}, mappedPage, nil, WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	last.root.mapped.self.number = maxObject + 1
	if _, err := last.Finish(); err == nil {
		t.Error("a map is written that nobody can read")
	}
}
