package snapshot

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// month is a database that is written to for long, of which only the newest
// content is kept here.
type month struct {
	t        *testing.T
	r        *rand.Rand
	shelf    shelf
	pageSize int
	image    []byte
	txn      wal.TxnInfo
	base     *pack.Reader
	stored   int64 // bytes of snapshot and maps
	changes  int64 // of segments
}

func (m *month) options() pack.WriterOptions {
	return pack.WriterOptions{GroupSize: 16 * m.pageSize} // as many as in 64 KiB of 4096 bytes
}

func newMonth(t *testing.T, r *rand.Rand, pages int) *month {
	m := &month{t: t, r: r, shelf: shelf{}, pageSize: 4096, image: make([]byte, 4096*pages)}
	fill(r, m.image)
	m.txn = wal.TxnInfo{ID: 1, Time: 1, Size: wal.Pgno(pages)}
	o := object{place: pack.Place{Generation: generation, Name: "snapshot/1"}}
	for p := range m.txn.Size {
		m.txn.Checksum ^= wal.PageSum(p+1, m.page(p+1))
	}
	o.bytes = m.snapshot(o.place)
	m.base = m.shelf.open(t, m.shelf.put(o))
	m.stored = int64(len(o.bytes))
	return m
}

// snapshot returns a whole snapshot of the database.
func (m *month) snapshot(place pack.Place) []byte {
	var b bytes.Buffer
	w := pack.NewWriter(&b, pack.Snapshot, m.pageSize, place, m.options())
	for p := range m.txn.Size {
		if err := w.Add(p+1, m.txn.ID, m.page(p+1)); err != nil {
			m.t.Fatal(err)
		}
	}
	if _, err := w.Finish([]wal.TxnInfo{m.txn}, m.mark()); err != nil {
		m.t.Fatal(err)
	}
	return b.Bytes()
}

func (m *month) page(p wal.Pgno) []byte { return m.image[int(p-1)*m.pageSize:][:m.pageSize] }

func (m *month) mark() wal.Mark { return wal.Mark{Txn: m.txn, PageSize: m.pageSize} }

// segment writes transactions of some pages each, which choose names.
func (m *month) segment(transactions, pages int, choose func() int) *pack.Reader {
	versions := map[wal.Pgno][]pack.Version{}
	var txns []wal.TxnInfo
	for range transactions {
		m.txn.ID, m.txn.Time, m.txn.Pages = m.txn.ID+1, m.txn.Time+1, 0
		for range pages {
			p := wal.Pgno(choose() + 1)
			if have := versions[p]; len(have) > 0 && have[len(have)-1].TXID == m.txn.ID {
				continue
			}
			page := m.page(p)
			m.txn.Checksum ^= wal.PageSum(p, page)
			fill(m.r, page)
			m.txn.Checksum ^= wal.PageSum(p, page)
			versions[p] = append(versions[p], pack.Version{TXID: m.txn.ID, Data: bytes.Clone(page)})
			m.txn.Pages++
		}
		txns = append(txns, m.txn)
	}
	o := object{place: pack.Place{Generation: generation, Name: "wal/" + txns[0].ID.String()}}
	var b bytes.Buffer
	w := pack.NewWriter(&b, pack.Segment, m.pageSize, o.place, m.options())
	for _, p := range slices.Sorted(maps.Keys(versions)) {
		for _, v := range versions[p] {
			if err := w.Add(p, v.TXID, v.Data); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	if _, err := w.Finish(txns, m.mark()); err != nil {
		m.t.Fatal(err)
	}
	o.bytes = b.Bytes()
	m.changes += int64(len(o.bytes))
	return m.shelf.open(m.t, m.shelf.put(o))
}

// mapOver makes the next map.
func (m *month) mapOver(segments ...*pack.Reader) MapStats {
	v := m.view(append(segments, m.base)...)
	o := object{place: pack.Place{Generation: generation, Name: "snapshot/" + m.txn.ID.String()}}
	var b bytes.Buffer
	stats, err := WriteMap(&b, o.place, v, always)
	if err != nil {
		m.t.Fatal(err)
	}
	o.bytes = b.Bytes()
	m.base = m.shelf.open(m.t, m.shelf.put(o))
	m.stored += int64(len(o.bytes))
	return stats
}

func (m *month) view(packs ...*pack.Reader) *View {
	v, err := NewView(m.txn, m.pageSize, packs...)
	if err != nil {
		m.t.Fatal(err)
	}
	return v
}

// fetched returns the bytes of all groups that the newest map refers to, and of
// the whole database compressed.
func (m *month) fetched() (groups, whole int64) {
	seen := map[int64]bool{}
	for n := range pack.LeafCount(m.txn.Size) {
		l, err := m.base.Leaf(n)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, g := range l.Groups {
			if at := int64(g.Object)<<44 | g.Off; !seen[at] {
				seen[at] = true
				groups += int64(g.Stored)
			}
		}
	}
	stored := m.view(m.base).Stored()
	for p := range m.txn.Size {
		if err := stored.Add(p + 1); err != nil {
			m.t.Fatal(err)
		}
	}
	if stored.Bytes() != groups || stored.Pages() != int64(m.txn.Size) {
		m.t.Fatalf("Stored has %d bytes of %d pages, want %d of %d", stored.Bytes(), stored.Pages(), groups, m.txn.Size)
	}
	return groups, int64(len(m.snapshot(pack.Place{})))
}

// TestMapsForLong: whatever pages are written, restoring fetches at most half
// more than the database, and what is stored stays within three times the
// database, and the changes. The proportions are those of a month with a million
// transactions of four pages in a database of 10 GB.
func TestMapsForLong(t *testing.T) {
	const pages, perSegment = 2 * pack.LeafPages, 2 * 16 / 4
	for name, choose := range map[string]func(r *rand.Rand) func() int{
		"uniform": func(r *rand.Rand) func() int { return func() int { return r.IntN(pages) } },
		"skewed": func(r *rand.Rand) func() int {
			z := rand.NewZipf(r, 1.1, 8, pages-1)
			return func() int { return int(z.Uint64()*2654435761) % pages }
		},
		"recent": func(r *rand.Rand) func() int {
			at := 0
			return func() int {
				at++
				return (at/2 + int(r.ExpFloat64()*20)) % pages
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(20, 20))
			m := newMonth(t, r, pages)
			pick := choose(r)
			var most, sum float64
			const segments = 100
			written := int64(0)
			for i := range segments {
				stats := m.mapOver(m.segment(perSegment, 4, pick))
				written += stats.Written
				if i%10 == 9 {
					groups, whole := m.fetched()
					ratio := float64(groups) / float64(whole)
					t.Logf("map %d: %d bytes, %d of %d leaves kept, %d pages written; %.2f fetched", i, stats.Size, stats.Kept, stats.Leaves, stats.Written, ratio)
					most, sum = max(most, ratio), sum+ratio
				}
			}
			var out bytes.Buffer
			if _, err := m.view(m.base).WriteTo(&out); err != nil || !bytes.Equal(out.Bytes(), m.image) {
				t.Fatalf("%v, or it differs", err)
			}
			_, whole := m.fetched()
			t.Logf("%.2f fetched at most, %.2f in the middle; %.2f of the database stored beside %.2f of changes; %d pages rewritten", most, sum/10,
				float64(m.stored)/float64(whole), float64(m.changes)/float64(whole), written)
			if most > 1.5 || m.stored > 3*whole {
				t.Errorf("%.2f fetched, %d stored for a database of %d", most, m.stored, whole)
			}
		})
	}
}
