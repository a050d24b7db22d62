package pack

import (
	"container/heap"
	"errors"
	"fmt"
	"io"

	"github.com/walback/walback/wal"
)

// Merge writes the segments in, which hold adjoining runs of transactions and
// come in their order, as one segment to w. It keeps every version and every
// transaction. It holds one group of each segment in memory.
func Merge(w io.Writer, place Place, o WriterOptions, in ...*Reader) (Info, error) {
	if len(in) == 0 {
		return Info{}, errors.New("pack: nothing to merge")
	}
	txns, err := mergeTxns(in)
	if err != nil {
		return Info{}, err
	}
	pw := NewWriter(w, Segment, in[0].root.PageSize, place, o)
	if err := mergeVersions(pw, in); err != nil {
		return Info{}, err
	}
	if _, err := pw.Finish(txns, in[len(in)-1].root.Mark); err != nil {
		return Info{}, err
	}
	return pw.Info(), nil
}

// mergeTxns returns the transactions of in, or why they cannot be one segment.
func mergeTxns(in []*Reader) ([]wal.TxnInfo, error) {
	var txns []wal.TxnInfo
	for i, r := range in {
		if r.root.Kind != Segment {
			return nil, fmt.Errorf("merging %s: not a segment", r.place.Name)
		}
		if r.root.PageSize != in[0].root.PageSize {
			return nil, fmt.Errorf("merging %s: pages of %d bytes behind pages of %d",
				r.place.Name, r.root.PageSize, in[0].root.PageSize)
		}
		if i > 0 {
			if err := adjoin(in[i-1].root.Last, r.root.First); err != nil {
				return nil, fmt.Errorf("merging %s: %w", r.place.Name, err)
			}
		}
		part, err := r.Txns()
		if err != nil {
			return nil, err
		}
		txns = append(txns, part...)
	}
	return txns, nil
}

// mergeVersions adds the versions of in to w in key order.
func mergeVersions(w *Writer, in []*Reader) error {
	var q queue
	for _, r := range in {
		h := &head{cursor: r.cursor(0)}
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
		if err := w.Add(h.Pgno, h.TXID, h.Data); err != nil {
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

// head is a cursor and the version it stands at.
type head struct {
	*cursor
	Version
	ended bool
}

func (h *head) advance() error {
	v, ok, err := h.read()
	h.Version, h.ended = v, !ok
	return err
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
