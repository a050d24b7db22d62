package generations_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"iter"
	"slices"
	"testing"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/storetest"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// longLog puts a generation of many segments of some transactions each, a page
// and a second apart; transaction i has the time i seconds.
func longLog(t *testing.T, store generations.Store, segments, txns int) generations.ID {
	t.Helper()
	const pageSize = 4096
	g := generations.ID(1 << 12)
	put := func(o generations.Object, b []byte) {
		o.Client, o.Generation = client, g
		if err := store.Put(t.Context(), o.Key(), io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))); err != nil {
			t.Fatal(err)
		}
	}
	put(generations.Object{Kind: generations.ManifestObject}, generations.Manifest{Format: 1, File: "db.sqlite", PageSize: pageSize, Created: 1, Writer: "w"}.Encode())
	page := make([]byte, pageSize)
	run := func(o generations.Object, kind pack.Kind, first, last wal.TXID) {
		o.Client, o.Generation = client, g
		var b bytes.Buffer
		w := pack.NewWriter(&b, kind, pageSize, o.Place(), pack.WriterOptions{})
		var infos []wal.TxnInfo
		for id := first; id <= last; id++ {
			rand.Read(page)
			if err := w.Add(1, id, page); err != nil {
				t.Fatal(err)
			}
			infos = append(infos, wal.TxnInfo{ID: id, Time: wal.Time(id) * 1e6, Size: 1, Pages: 1, Checksum: wal.PageSum(1, page)})
		}
		if _, err := w.Finish(infos, wal.Mark{Txn: infos[len(infos)-1], PageSize: pageSize}); err != nil {
			t.Fatal(err)
		}
		put(o, b.Bytes())
	}
	run(generations.Object{Kind: generations.SnapshotObject, First: 1}, pack.Snapshot, 1, 1)
	for i := range segments {
		first := wal.TXID(2 + i*txns)
		run(generations.Object{Kind: generations.SegmentObject, First: first}, pack.Segment, first, first+wal.TXID(txns)-1)
	}
	return g
}

// collect returns what txns yields.
func collect(t *testing.T, txns iter.Seq2[wal.TxnInfo, error]) (ids []wal.TXID) {
	t.Helper()
	for txn, err := range txns {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, txn.ID)
	}
	return ids
}

// Of a log only what is asked for is read: the tables of the segments of the
// span, which are a small part of them, and a few roots to find it.
func TestLogReadsLittle(t *testing.T) {
	const segments, txns = 64, 50
	store := storetest.Counting(newMemory())
	g := longLog(t, store, segments, txns)
	written := store.Reset().Written
	open := func() *generations.Timeline {
		c, err := cache.New(store, nil, cache.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		tl, err := generations.OpenTimeline(t.Context(), client, store, nil, c)
		if err != nil {
			t.Fatal(err)
		}
		return tl
	}
	for name, test := range map[string]struct {
		since, until wal.Time // in seconds
		newest       int64
		first, last  wal.TXID
		gets         int // at most
	}{
		"all":           {-1, 1e6, 1e6, 1, 1 + segments*txns, segments + 2},
		"an hour":       {1000, 1100, 1e6, 1000, 1100, 4 + 14},
		"to the end":    {3195, 1e6, 1e6, 3195, 3201, 2 + 8},
		"the newest":    {-1, 1e6, 10, 3192, 3201, 3},
		"before an end": {-1, 1000, 10, 991, 1000, 3 + 8},
		"the last":      {3201, 3201, 10, 3201, 3201, 2 + 8},
	} {
		for _, backward := range []bool{false, true} {
			store.Reset()
			tl := open()
			span, err := tl.Span(t.Context(), g, test.since*1e6, test.until*1e6)
			if err != nil {
				t.Fatal(err)
			}
			span = span.Newest(test.newest)
			seq := tl.Txns(t.Context(), span)
			if backward {
				seq = tl.TxnsBackward(t.Context(), span)
			}
			got := collect(t, seq)
			if backward {
				slices.Reverse(got)
			}
			if len(got) != int(test.last-test.first)+1 || got[0] != test.first || !slices.IsSorted(got) {
				t.Errorf("%s: transactions %v, want %d to %d", name, got, test.first, test.last)
			}
			c := store.Total()
			if c.Gets > test.gets || c.Read*4 > written || c.Lists > 2 {
				t.Errorf("%s, backward %t: %d GETs and %d lists, %d bytes of %d; want at most %d GETs", name, backward, c.Gets, c.Lists, c.Read, written, test.gets)
			}
		}
	}
}

// Who stops reading a log stops its being read.
func TestLogLeftEarly(t *testing.T) {
	const segments = 64
	store := storetest.Counting(newMemory())
	g := longLog(t, store, segments, 3)
	c, err := cache.New(store, nil, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tl, err := generations.OpenTimeline(t.Context(), client, store, nil, c)
	if err != nil {
		t.Fatal(err)
	}
	span := generations.Span{Generation: g, First: 2, Last: 1 + segments*3}
	store.Reset()
	for txn, err := range tl.Txns(t.Context(), span) {
		if err != nil || txn.ID != 2 {
			t.Fatalf("%v, %v", txn, err)
		}
		break
	}
	if n := store.Total().Gets; n == 0 || n > segments/2 {
		t.Errorf("%d segments were read for one line", n)
	}
}
