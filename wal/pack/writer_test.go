package pack

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/walback/walback/wal"
)

// TestRefused: what makes no pack is refused, and says why.
func TestRefused(t *testing.T) {
	page := make([]byte, 512)
	txn := func(id wal.TXID, at wal.Time, pages wal.Pgno) wal.TxnInfo {
		return wal.TxnInfo{ID: id, Time: at, Size: 9, Pages: pages}
	}
	mark := func(t wal.TxnInfo) wal.Mark { return wal.Mark{Txn: t, PageSize: 512} }
	type writer = *Writer
	for _, c := range []struct {
		want string
		kind Kind
		o    WriterOptions
		do   func(w writer) error
	}{
		{"unknown kind", 3, WriterOptions{}, func(w writer) error { return w.Add(1, 1, page) }},
		{"only a snapshot", Segment, WriterOptions{Fuzzy: true}, func(w writer) error { return w.Add(1, 1, page) }},
		{"has 511 bytes", Segment, WriterOptions{}, func(w writer) error { return w.Add(1, 1, page[1:]) }},
		{"page 0", Segment, WriterOptions{}, func(w writer) error { return w.Add(0, 1, page) }},
		{"transaction 0", Segment, WriterOptions{}, func(w writer) error { return w.Add(1, 0, page) }},
		{"behind page 2", Segment, WriterOptions{}, func(w writer) error { return errors.Join(w.Add(2, 1, page), w.Add(1, 1, page)) }},
		{"behind page 2", Segment, WriterOptions{}, func(w writer) error { return errors.Join(w.Add(2, 2, page), w.Add(2, 2, page)) }},
		{"behind page 2", Snapshot, WriterOptions{}, func(w writer) error { return errors.Join(w.Add(2, 2, page), w.Add(2, 3, page)) }},
		{"0 transactions", Segment, WriterOptions{}, func(w writer) error { _, err := w.Finish(nil, wal.Mark{}); return err }},
		{"transaction 3 follows transaction 1", Segment, WriterOptions{}, func(w writer) error {
			_, err := w.Finish([]wal.TxnInfo{txn(1, 1, 0), txn(3, 2, 0)}, mark(txn(3, 2, 0)))
			return err
		}},
		{"times must increase", Segment, WriterOptions{}, func(w writer) error {
			_, err := w.Finish([]wal.TxnInfo{txn(1, 1, 0), txn(2, 1, 0)}, mark(txn(2, 1, 0)))
			return err
		}},
		{"the mark", Segment, WriterOptions{}, func(w writer) error {
			_, err := w.Finish([]wal.TxnInfo{txn(1, 1, 0)}, mark(txn(1, 2, 0)))
			return err
		}},
		{"the mark is of pages", Segment, WriterOptions{}, func(w writer) error {
			_, err := w.Finish([]wal.TxnInfo{txn(1, 1, 0)}, wal.Mark{Txn: txn(1, 1, 0), PageSize: 1024})
			return err
		}},
		{"1 pages of transaction 1, which wrote 2", Segment, WriterOptions{}, func(w writer) error {
			err := w.Add(1, 1, page)
			_, ferr := w.Finish([]wal.TxnInfo{txn(1, 1, 2)}, mark(txn(1, 1, 2)))
			return errors.Join(err, ferr)
		}},
		{"after which the database has 9 pages", Segment, WriterOptions{}, func(w writer) error {
			err := w.Add(10, 1, page)
			_, ferr := w.Finish([]wal.TxnInfo{txn(1, 1, 1)}, mark(txn(1, 1, 1)))
			return errors.Join(err, ferr)
		}},
		{"not among 1 to 1", Segment, WriterOptions{}, func(w writer) error {
			err := w.Add(1, 2, page)
			_, ferr := w.Finish([]wal.TxnInfo{txn(1, 1, 0)}, mark(txn(1, 1, 0)))
			return errors.Join(err, ferr)
		}},
		{"a snapshot or map is of one transaction", Snapshot, WriterOptions{}, func(w writer) error {
			_, err := w.Finish([]wal.TxnInfo{txn(1, 1, 0), txn(2, 2, 0)}, mark(txn(2, 2, 0)))
			return err
		}},
		{"fuzzy snapshot with a checksum", Snapshot, WriterOptions{Fuzzy: true}, func(w writer) error {
			t := txn(1, 1, 0)
			t.Checksum = 5
			_, err := w.Finish([]wal.TxnInfo{t}, mark(t))
			return err
		}},
	} {
		var b bytes.Buffer
		w := NewWriter(&b, c.kind, 512, testPlace, c.o)
		if err := c.do(w); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want an error with %q, got %v", c.want, err)
		}
		if b.Len() > 0 {
			t.Errorf("%q: %d bytes were written", c.want, b.Len())
		}
	}
}

// TestFinished: nothing can be done with a writer after Finish.
func TestFinished(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, Segment, 512, testPlace, WriterOptions{})
	txn := wal.TxnInfo{ID: 1}
	mark := wal.Mark{Txn: txn, PageSize: 512}
	if _, err := w.Finish([]wal.TxnInfo{txn}, mark); err != nil {
		t.Fatal(err)
	}
	n := b.Len()
	_, err := w.Finish([]wal.TxnInfo{txn}, mark)
	if add := w.Add(1, 1, make([]byte, 512)); add == nil || err == nil || b.Len() != n {
		t.Fatalf("Add: %v, Finish: %v", add, err)
	}
	if err := open(t, b.Bytes(), testPlace).Verify(); err != nil { // a pack of nothing
		t.Fatal(err)
	}
}

// TestMergeRefused: only segments of one page size merge that come in their order,
// without a gap, and agree where they overlap.
func TestMergeRefused(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(1, 1)), 512, 4, 9, 2)
	place := testPlace
	part := func(i, j int) *Reader { return open(t, h.encode(t, place, WriterOptions{}, i, j), place) }
	other := newHistory(rand.New(rand.NewPCG(1, 1)), 1024, 4, 9, 2)
	stranger := *h
	stranger.txns = slices.Clone(h.txns)
	stranger.txns[2].Checksum++
	var snapshot bytes.Buffer
	w := NewWriter(&snapshot, Snapshot, 512, place, WriterOptions{})
	if _, err := w.Finish(h.txns[:1], wal.Mark{Txn: h.txns[0], PageSize: 512}); err != nil {
		t.Fatal(err)
	}
	for want, in := range map[string][]*Reader{
		"nothing to merge":    nil,
		"follows transaction": {part(0, 2), part(3, 4)},
		"comes in front":      {part(1, 3), part(0, 4)},
		"tells otherwise":     {part(0, 3), open(t, stranger.encode(t, place, WriterOptions{}, 2, 4), place)},
		"pages of 1024 bytes": {part(0, 2), open(t, other.encode(t, place, WriterOptions{}, 2, 4), place)},
		"not a segment":       {part(0, 2), open(t, snapshot.Bytes(), place)},
	} {
		var b bytes.Buffer
		if _, err := Merge(&b, place, WriterOptions{}, in...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
		if b.Len() > 0 {
			t.Errorf("%q: %d bytes were written", want, b.Len())
		}
	}
}

// TestOverhead: a commit of one row must not cost much more than its pages. The
// bound is part of what the tool promises for shipping each commit at once.
func TestOverhead(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(2, 2)), 4096, 1, 1, 0)
	h.txns[0] = wal.TxnInfo{ID: 1_234_567, Time: h.txns[0].Time, Size: 250_000, Pages: 4, Checksum: h.txns[0].Checksum}
	var pages []byte
	rnd := rand.New(rand.NewPCG(3, 3))
	for _, p := range []wal.Pgno{1, 17, 4711, 200_000} {
		page := randomPage(rnd, 4096)
		h.versions[p] = map[wal.TXID][]byte{h.txns[0].ID: page}
		pages = append(pages, page...)
	}
	n, group := len(h.encode(t, testPlace, WriterOptions{}, 0, 1)), len(appendBlock(nil, pages, false))
	t.Logf("%d bytes, of which %d are the pages: overhead %d", n, group, n-group)
	if n-group > 200 {
		t.Errorf("overhead of %d bytes, want at most 200", n-group)
	}
}
