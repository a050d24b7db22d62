package pack

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/walback/walback/wal"
)

var testPlace = Place{Generation: "00000123456789ab", Name: "wal/0000000001.wal"}

// history is a plain model of what a run of transactions did.
type history struct {
	pageSize int
	txns     []wal.TxnInfo
	versions map[wal.Pgno]map[wal.TXID][]byte
}

// newHistory makes up n transactions of up to pages pages each, on a database of
// about size pages; some shrink it, and some change little of a page.
func newHistory(r *rand.Rand, pageSize, n, size, pages int) *history {
	h := &history{pageSize: pageSize, versions: map[wal.Pgno]map[wal.TXID][]byte{}}
	last := map[wal.Pgno][]byte{}
	id, at := wal.TXID(1+r.IntN(1000)), wal.Time(1_700_000_000_000_000+r.Int64N(1e12))
	for range n {
		t := wal.TxnInfo{ID: id, Time: at, Size: wal.Pgno(1 + r.IntN(size)), Checksum: wal.Checksum(r.Uint64())}
		for range r.IntN(pages + 1) {
			p := wal.Pgno(1 + r.IntN(int(t.Size)))
			if h.versions[p] == nil {
				h.versions[p] = map[wal.TXID][]byte{}
			}
			if h.versions[p][id] == nil {
				t.Pages++
			}
			if before := last[p]; before != nil && r.IntN(2) == 0 {
				h.versions[p][id] = changedPage(r, before)
			} else {
				h.versions[p][id] = randomPage(r, pageSize)
			}
			last[p] = h.versions[p][id]
		}
		h.txns = append(h.txns, t)
		id++
		at += wal.Time(1 + r.Int64N(1e7))
	}
	return h
}

// randomPage returns a page that compresses about as well as a real one.
func randomPage(r *rand.Rand, pageSize int) []byte {
	b := make([]byte, pageSize)
	for i := range b[:pageSize/4] {
		b[i] = byte(r.Uint32())
	}
	return b
}

// changedPage returns a page of which a transaction has changed a little.
func changedPage(r *rand.Rand, page []byte) []byte {
	page = slices.Clone(page)
	for range r.IntN(4) {
		from := r.IntN(len(page))
		copy(page[from:], randomPage(r, 4*(1+r.IntN(20))))
	}
	return page
}

func (h *history) mark() wal.Mark {
	return wal.Mark{
		Txn: h.txns[len(h.txns)-1], PageSize: h.pageSize,
		Log: wal.Position{Salt1: 1, Salt2: 2, Frames: 300, Sum: [2]uint32{3, 4}, PageSize: h.pageSize, BigEndian: true},
	}
}

// encode writes the transactions from i up to j as a segment.
func (h *history) encode(t testing.TB, place Place, o WriterOptions, i, j int) []byte {
	t.Helper()
	var b bytes.Buffer
	part := history{h.pageSize, h.txns[i:j], nil}
	w := NewWriter(&b, Segment, h.pageSize, place, o)
	for _, p := range slices.Sorted(maps.Keys(h.versions)) {
		for _, id := range slices.Sorted(maps.Keys(h.versions[p])) {
			if id < part.txns[0].ID || id > part.txns[len(part.txns)-1].ID {
				continue
			}
			if err := w.Add(p, id, h.versions[p][id]); err != nil {
				t.Fatal(err)
			}
		}
	}
	n, err := w.Finish(part.txns, part.mark())
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) {
		t.Fatalf("Finish returned %d for %d bytes", n, b.Len())
	}
	return b.Bytes()
}

func open(t testing.TB, b []byte, place Place) *Reader {
	t.Helper()
	r, err := Open(bytes.NewReader(b), int64(len(b)), place, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestHistory compares every page at every transaction with the model.
func TestHistory(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	h := newHistory(rnd, 512, 300, 400, 40)
	b := h.encode(t, testPlace, WriterOptions{GroupSize: 4096}, 0, len(h.txns))
	r := open(t, b, testPlace)
	if err := r.Verify(); err != nil {
		t.Fatal(err)
	}
	compare(t, h, r)
}

// compare compares all that r tells with h.
func compare(t interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}, h *history, r *Reader) {
	t.Helper()
	txns, err := r.Txns()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(txns, h.txns) {
		t.Fatalf("transactions differ")
	}
	if got := r.Info().Mark; got != h.mark() {
		t.Fatalf("mark is %+v", got)
	}
	page := make([]byte, h.pageSize)
	for p, versions := range h.versions {
		var want []byte
		last := h.txns[len(h.txns)-1].ID
		for id := h.txns[0].ID - 1; id <= last+1; id++ {
			if v := versions[id]; v != nil {
				want = v
			}
			ref, ok, err := r.Find(p, id)
			if err != nil {
				t.Fatal(err)
			}
			if ok != (want != nil) {
				t.Fatalf("page %d at transaction %d: found %t", p, id, ok)
			}
			if !ok {
				continue
			}
			if err := r.Read(ref, page); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(page, want) {
				t.Fatalf("page %d at transaction %d differs", p, id)
			}
		}
	}
	n := int64(0)
	for v, err := range r.All(0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if !bytes.Equal(h.versions[v.Pgno][v.TXID], v.Data) {
			t.Fatalf("All: page %d of transaction %d differs", v.Pgno, v.TXID)
		}
	}
	if n != r.Info().Versions {
		t.Fatalf("All yields %d versions, Info says %d", n, r.Info().Versions)
	}
}
