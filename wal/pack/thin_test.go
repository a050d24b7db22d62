package pack

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/walback/walback/wal"
)

// TestThin: whatever is needed of a history, and however often it is thinned, by
// parts and as a whole, every page as of every needed transaction is found as in
// the pack that has all of it, and of what is not needed nothing takes room.
func TestThin(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h, o := drawHistory(rt)
		whole := open(t, h.encode(t, testPlace, o, 0, len(h.txns)), testPlace)
		first, last := whole.Info().First.ID, whole.Info().Last.ID
		cut := rapid.IntRange(1, len(h.txns)).Draw(rt, "cut")
		needed := map[wal.TXID]bool{last: true, h.txns[cut-1].ID: true}
		for _, txn := range h.txns {
			if rapid.Bool().Draw(rt, "needed") {
				needed[txn.ID] = true
			}
		}
		is := func(id wal.TXID) bool { return needed[id] }
		var parts []*Reader
		for _, span := range [][2]int{{0, cut}, {cut, len(h.txns)}} {
			if span[0] < span[1] {
				place := Place{testPlace.Generation, fmt.Sprint(span)}
				part := open(t, h.encode(t, place, WriterOptions{}, span[0], span[1]), place)
				parts = append(parts, part)
				if rapid.Bool().Draw(rt, "by parts") {
					parts[len(parts)-1] = thin(rt, is, part)
				}
			}
		}
		for id := range needed { // something more has become old
			if id != last && rapid.Bool().Draw(rt, "forgotten") {
				delete(needed, id)
			}
		}
		got := thin(rt, is, parts...)
		versions := map[Ref]bool{}
		for _, txn := range h.txns {
			found, _, err := got.Txn(txn.ID)
			if err != nil || needed[txn.ID] && found != txn || found.Size != txn.Size {
				rt.Fatalf("transaction %+v has become %+v, %v", txn, found, err)
			}
			if !needed[txn.ID] {
				continue
			}
			for p := range h.versions {
				a, hasA, err := whole.Find(p, txn.ID)
				if err != nil {
					rt.Fatal(err)
				}
				b, hasB, err := got.Find(p, txn.ID)
				if err != nil || hasA != hasB || hasA && (a.TXID != b.TXID || a.Sum != b.Sum) {
					rt.Fatalf("page %d as of %d is %+v %t, want %+v %t; %v", p, txn.ID, b, hasB, a, hasA, err)
				}
				if hasB {
					versions[Ref{Pgno: b.Pgno, TXID: b.TXID}] = true
				}
			}
			// It is the newest until the next one was committed.
			until := txn.Time
			if txn.ID < last {
				until = h.txns[txn.ID-first+1].Time - 1
			}
			if at, ok, err := got.TxnAt(until); err != nil || !ok || at != txn {
				rt.Fatalf("at %s there is %+v, %v, want %+v", until, at, err, txn)
			}
		}
		if n := got.Info().Versions; n != int64(len(versions)) {
			rt.Fatalf("%d versions are kept, %d needed", n, len(versions))
		}
	})
}

// thin thins packs into one that verifies.
func thin(t *rapid.T, needed func(wal.TXID) bool, in ...*Reader) *Reader {
	var b bytes.Buffer
	info, err := Thin(&b, testPlace, WriterOptions{}, 0, needed, in...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(bytes.NewReader(b.Bytes()), int64(b.Len()), testPlace, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(); err != nil || r.Info() != info || !info.Thinned {
		t.Fatalf("%v; %+v, told %+v", err, r.Info(), info)
	}
	return r
}

// What has been thinned is not taken for what has everything, and what others lie
// over cannot be thinned away.
func TestThinRefuses(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(5, 6)), 512, 5, 9, 3)
	r := open(t, h.encode(t, testPlace, WriterOptions{}, 0, len(h.txns)), testPlace)
	var b bytes.Buffer
	if _, err := Thin(&b, testPlace, WriterOptions{}, 0, func(wal.TXID) bool { return false }, r); err == nil {
		t.Error("the last transaction can be thinned away")
	}
	b.Reset()
	last := r.Info().Last.ID
	if _, err := Thin(&b, testPlace, WriterOptions{}, 0, func(id wal.TXID) bool { return id == last }, r); err != nil {
		t.Fatal(err)
	}
	thinned := open(t, b.Bytes(), testPlace)
	if _, err := Merge(&bytes.Buffer{}, testPlace, WriterOptions{}, thinned); err == nil {
		t.Error("a thinned segment is merged as if it were whole")
	}
}
