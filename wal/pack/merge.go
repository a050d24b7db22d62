package pack

import (
	"container/heap"
	"errors"
	"fmt"
	"io"

	"github.com/walback/walback/wal"
)

// Merge writes the segments in, which come in the order of their first
// transactions and have no gaps between them, as one segment to w. It keeps every
// version and every transaction. Where segments overlap, as they do after two have
// merged the same ones, each must tell the same of what they share. It holds one
// group of each segment in memory.
func Merge(w io.Writer, place Place, o WriterOptions, in ...*Reader) (Info, error) {
	if len(in) == 0 {
		return Info{}, errors.New("pack: nothing to merge")
	}
	txns, shares, err := mergeTxns(in, true)
	if err != nil {
		return Info{}, err
	}
	for _, r := range in {
		if r.root.Thinned {
			return Info{}, fmt.Errorf("merging %s: it has been thinned", r.place.Name)
		}
	}
	pw := NewWriter(w, Segment, in[0].root.PageSize, place, o)
	add := func(v Version) error { return pw.AddSummed(v.Pgno, v.TXID, v.Data, v.Sum) }
	if err := mergeVersions(shares, add); err != nil {
		return Info{}, err
	}
	if _, err := pw.Finish(txns, shares[len(shares)-1].root.Mark); err != nil {
		return Info{}, err
	}
	return pw.Info(), nil
}

// share is what is taken from one segment: its transactions from first on.
type share struct {
	*Reader
	first wal.TXID
}

// mergeTxns returns the transactions of in and from where each is taken, or why
// they cannot be one segment. What overlaps has to agree, unless it need not.
func mergeTxns(in []*Reader, agree bool) ([]wal.TxnInfo, []share, error) {
	var txns []wal.TxnInfo
	var shares []share
	for _, r := range in {
		if r.root.Kind != Segment {
			return nil, nil, fmt.Errorf("merging %s: not a segment", r.place.Name)
		}
		if r.root.PageSize != in[0].root.PageSize {
			return nil, nil, fmt.Errorf("merging %s: pages of %d bytes behind pages of %d",
				r.place.Name, r.root.PageSize, in[0].root.PageSize)
		}
		part, err := r.Txns()
		if err != nil {
			return nil, nil, err
		}
		if part, err = behind(txns, part, agree); err != nil {
			return nil, nil, fmt.Errorf("merging %s: %w", r.place.Name, err)
		}
		if len(part) > 0 {
			shares = append(shares, share{r, part[0].ID})
			txns = append(txns, part...)
		}
	}
	return txns, shares, nil
}

// behind returns what part adds to txns, which it goes on from or overlaps.
func behind(txns, part []wal.TxnInfo, agree bool) ([]wal.TxnInfo, error) {
	if len(txns) == 0 {
		return part, nil
	}
	first, last := txns[0].ID, txns[len(txns)-1]
	if agree && part[0].ID < first {
		return nil, fmt.Errorf("transaction %d comes in front of %d", part[0].ID, first)
	}
	for len(part) > 0 && part[0].ID <= last.ID {
		if agree && txns[part[0].ID-first] != part[0] {
			have := txns[part[0].ID-first]
			return nil, fmt.Errorf("it tells otherwise of transaction %d than the segments in front: %+v, not %+v", have.ID, part[0], have)
		}
		part = part[1:]
	}
	if len(part) == 0 {
		return nil, nil
	}
	return part, adjoin(last, part[0])
}

// mergeVersions calls add with the versions of in, in key order. The data is valid
// until it returns.
func mergeVersions(in []share, add func(Version) error) error {
	var q queue
	for _, r := range in {
		h := &head{cursor: r.cursor(0), first: r.first}
		defer h.stop()
		if err := h.advance(); err != nil {
			return err
		}
		if !h.ended {
			q = append(q, h)
		}
	}
	heap.Init(&q)
	for len(q) > 0 {
		h := q[0]
		if err := add(h.Version); err != nil {
			return err
		}
		if err := h.advance(); err != nil {
			return err
		}
		if h.ended {
			heap.Pop(&q)
		} else {
			heap.Fix(&q, 0)
		}
	}
	return nil
}

// head is a cursor and the version it stands at, none of a transaction in front
// of first.
type head struct {
	*cursor
	first wal.TXID
	Version
	ended bool
}

func (h *head) advance() error {
	for {
		v, ok, err := h.read()
		h.Version, h.ended = v, !ok
		if err != nil || h.ended || v.TXID >= h.first {
			return err
		}
	}
}

// queue is a heap of cursors; the one that stands at the least key is first.
type queue []*head

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	if q[i].Pgno != q[j].Pgno {
		return q[i].Pgno < q[j].Pgno
	}
	return q[i].TXID < q[j].TXID
}
func (q *queue) Push(x any) { *q = append(*q, x.(*head)) }
func (q *queue) Pop() any {
	old := *q
	h := old[len(old)-1]
	*q = old[:len(old)-1]
	return h
}
