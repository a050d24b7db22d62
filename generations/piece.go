package generations

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// maxRun is how many bytes of pages one piece, and one segment, holds at most,
// unless a single transaction has more.
const maxRun = 32 << 20

// runLength returns how many of the first transactions of txns fit in a piece:
// one at least.
func runLength(txns []*wal.Txn) int {
	n, raw := 1, rawBytes(txns[0])
	for n < len(txns) && raw+rawBytes(txns[n]) <= maxRun {
		raw += rawBytes(txns[n])
		n++
	}
	return n
}

// version is a page to write: which, of which transaction, and where it is.
type version struct {
	wal.Frame
	txn *wal.Txn
}

// writePiece saves txns, which follow each other, as one piece.
func (s *Spool) writePiece(client string, g ID, txns []*wal.Txn) (piece, error) {
	first, last := txns[0], txns[len(txns)-1]
	o := Object{Client: client, Generation: g, Kind: PieceObject, First: first.ID, Last: last.ID}
	f, err := s.create()
	if err != nil {
		return piece{}, err
	}
	w := pack.NewWriter(f, pack.Segment, first.PageSize, o.Place(), pack.WriterOptions{Raw: true})
	p := piece{Object: o, head: first.TxnInfo}
	pages := newPageReader(txns)
	defer pages.release()
	for v := range versions(txns) {
		page, err := pages.read(v)
		if err == nil {
			err = w.Add(v.Pgno, v.txn.ID, page)
		}
		if err != nil {
			return piece{}, errors.Join(err, f.drop())
		}
		p.raw += int64(len(page))
	}
	infos := make([]wal.TxnInfo, len(txns))
	for i, t := range txns {
		infos[i] = t.TxnInfo
	}
	p.size, err = w.Finish(infos, wal.Mark{Txn: last.TxnInfo, PageSize: last.PageSize, Log: last.End})
	if err != nil {
		return piece{}, errors.Join(err, f.drop())
	}
	return p, f.keep(o.Key())
}

// versions yields the pages of txns ascending by page number and transaction.
// It sorts where the pages are, not the pages.
func versions(txns []*wal.Txn) iter.Seq[version] {
	return func(yield func(version) bool) {
		if len(txns) == 1 { // a huge transaction is alone, and its frames ascend
			for _, f := range txns[0].Frames {
				if !yield(version{f, txns[0]}) {
					return
				}
			}
			return
		}
		var all []version
		for _, t := range txns {
			for _, f := range t.Frames {
				all = append(all, version{f, t})
			}
		}
		slices.SortFunc(all, func(a, b version) int {
			return cmp.Or(cmp.Compare(a.Pgno, b.Pgno), cmp.Compare(a.txn.ID, b.txn.ID))
		})
		for _, v := range all {
			if !yield(v) {
				return
			}
		}
	}
}

// pageReader reads the pages of transactions that wait to be saved. Most lie
// behind each other in a log, which is read at once then: a gate waits for it.
type pageReader struct {
	page   []byte
	source io.ReaderAt // nil: nothing is read at once
	span   *[spanSize]byte
	from   int64 // of span in source
}

// spanSize is how many bytes are read at once at most: a little more than a log
// has between two checkpoints by default.
const spanSize = 5 << 20

var spans = sync.Pool{New: func() any { return new([spanSize]byte) }}

// newPageReader returns a reader of the pages of txns. It has to be released.
func newPageReader(txns []*wal.Txn) *pageReader {
	r := &pageReader{page: make([]byte, txns[0].PageSize)}
	from, to := int64(math.MaxInt64), int64(0)
	for _, t := range txns {
		if t.Source != txns[0].Source {
			return r
		}
		for _, f := range t.Frames {
			from, to = min(from, f.Off), max(to, f.Off+int64(t.PageSize))
		}
	}
	if _, log := txns[0].Source.(*os.File); !log || to-from > spanSize || to <= from {
		return r
	}
	r.span, r.from = spans.Get().(*[spanSize]byte), from
	if n, err := txns[0].Source.ReadAt(r.span[:to-from], from); int64(n) == to-from && (err == nil || errors.Is(err, io.EOF)) {
		r.source = txns[0].Source
	}
	return r
}

func (r *pageReader) release() {
	if r.span != nil {
		spans.Put(r.span)
	}
}

// read returns a page, until the next one is read, having made sure that it still
// is what was captured.
func (r *pageReader) read(v version) ([]byte, error) {
	page := r.page
	if r.source != nil {
		page = r.span[v.Off-r.from:][:len(page)]
	} else if n, err := v.txn.Source.ReadAt(page, v.Off); err != nil && !(errors.Is(err, io.EOF) && n == len(page)) {
		return nil, fmt.Errorf("read page %d of transaction %d: %w", v.Pgno, v.txn.ID, err)
	}
	if sum := wal.PageSum(v.Pgno, page); sum != v.Sum {
		return nil, fmt.Errorf("page %d of transaction %d was overwritten before it could be saved (checksum %s, captured %s)", v.Pgno, v.txn.ID, sum, v.Sum)
	}
	return page, nil
}
