package pack

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/walback/walback/wal"
)

// drawHistory draws a history of any page size, small enough to look at every
// page of it at every transaction.
func drawHistory(t *rapid.T) (*history, WriterOptions) {
	pageSize := 1 << rapid.IntRange(9, 16).Draw(t, "log2 page size")
	seed := rapid.Uint64().Draw(t, "seed")
	most := min(24, max(1, (2<<20)/pageSize/8))
	h := newHistory(rand.New(rand.NewPCG(seed, 1)), pageSize,
		rapid.IntRange(1, 12).Draw(t, "transactions"),
		rapid.SampledFrom([]int{1, 5, 100, 1 << 32 / 2}).Draw(t, "pages in the database"),
		rapid.IntRange(0, most).Draw(t, "pages in a transaction"))
	return h, WriterOptions{
		GroupSize:   rapid.SampledFrom([]int{0, 1, 4096, 1 << 20}).Draw(t, "group size"),
		Raw:         rapid.Bool().Draw(t, "raw"),
		Concurrency: rapid.IntRange(0, 3).Draw(t, "concurrency"),
	}
}

// TestAnyHistory: what was written is found at every transaction, and writing
// what was read gives the same bytes.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h, o := drawHistory(rt)
		b := h.encode(t, testPlace, o, 0, len(h.txns))
		r := open(t, b, testPlace)
		if err := r.Verify(); err != nil {
			rt.Fatal(err)
		}
		compare(rt, h, r)
		if again := rewrite(t, r, o); !bytes.Equal(again, b) {
			rt.Fatal("writing what was read gives other bytes")
		}
	})
}

// rewrite copies a pack through its Reader.
func rewrite(t testing.TB, r *Reader, o WriterOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	o.Fuzzy, o.Thinned = r.Info().Fuzzy, r.Info().Thinned
	w := NewWriter(&b, r.Info().Kind, r.Info().PageSize, r.Place(), o)
	for v, err := range r.All(0) {
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add(v.Pgno, v.TXID, v.Data); err != nil {
			t.Fatal(err)
		}
	}
	txns, err := r.Txns()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(txns, r.Info().Mark); err != nil {
		t.Fatal(err)
	}
	if w.Info() != r.Info() {
		t.Fatalf("written %+v, read %+v", w.Info(), r.Info())
	}
	return b.Bytes()
}

// TestMergeAnySplit: however a history is split, and wherever the parts overlap,
// merging gives the bytes of the pack that never was.
func TestMergeAnySplit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h, o := drawHistory(rt)
		whole := h.encode(t, testPlace, o, 0, len(h.txns))
		var parts []*Reader
		for i := 0; i < len(h.txns); {
			j := rapid.IntRange(i+1, len(h.txns)).Draw(rt, "split")
			from := i
			if len(parts) > 0 {
				from = rapid.IntRange(int(parts[len(parts)-1].Info().First.ID-h.txns[0].ID), i).Draw(rt, "from")
			}
			to := rapid.IntRange(from+1, j).Draw(rt, "to") // up to i, it adds nothing
			place := Place{testPlace.Generation, fmt.Sprintf("%d-%d", from, to)}
			parts = append(parts, open(t, h.encode(t, place, WriterOptions{Raw: rapid.Bool().Draw(rt, "raw part")}, from, to), place))
			if to <= i {
				continue
			}
			j = to
			i = j
		}
		var b bytes.Buffer
		info, err := Merge(&b, testPlace, o, parts...)
		if err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), whole) {
			rt.Fatalf("merging %d segments gives other bytes than writing one", len(parts))
		}
		if got := open(t, whole, testPlace).Info(); got != info {
			rt.Fatalf("Merge returned %+v, the pack has %+v", info, got)
		}
	})
}

// TestTxns compares the ways to look for a transaction, over several blocks of
// the table.
func TestTxns(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(3, 4)), 512, 2*txnsPerTable+5, 50, 1)
	r := open(t, h.encode(t, testPlace, WriterOptions{}, 0, len(h.txns)), testPlace)
	if err := r.Verify(); err != nil {
		t.Fatal(err)
	}
	for i, want := range h.txns {
		if got, ok, err := r.Txn(want.ID); err != nil || !ok || got != want {
			t.Fatalf("Txn(%d): %+v %t %v", want.ID, got, ok, err)
		}
		if got, ok, err := r.TxnAt(want.Time); err != nil || !ok || got != want {
			t.Fatalf("TxnAt(%s): %+v %t %v", want.Time, got, ok, err)
		}
		got, ok, err := r.TxnAt(want.Time - 1)
		if err != nil || ok != (i > 0) || ok && got != h.txns[i-1] {
			t.Fatalf("TxnAt(%s): %+v %t %v", want.Time-1, got, ok, err)
		}
	}
	for _, id := range []wal.TXID{h.txns[0].ID - 1, h.txns[len(h.txns)-1].ID + 1} {
		if _, ok, err := r.Txn(id); ok || err != nil {
			t.Fatalf("Txn(%d): %t %v", id, ok, err)
		}
	}
}
