package generations

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
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
	o := Object{Client: client, Generation: g, Kind: PieceObject, First: txns[0].ID, Last: txns[len(txns)-1].ID}
	if p, raw, err := s.writeRawPiece(o, txns); raw || err != nil {
		return p, err
	}
	return s.writePack(o, txns)
}

// writePack saves txns as the piece o, which is a pack.
func (s *Spool) writePack(o Object, txns []*wal.Txn) (piece, error) {
	f, err := s.create()
	if err != nil {
		return piece{}, err
	}
	p := piece{Object: o, head: txns[0].TxnInfo}
	for _, t := range txns {
		p.raw += rawBytes(t)
	}
	p.size, err = writeTxns(pack.NewWriter(f, pack.Segment, txns[0].PageSize, o.Place(), pack.WriterOptions{Raw: true}), txns)
	if err != nil {
		return piece{}, errors.Join(err, f.drop())
	}
	return p, f.keep(o.Key())
}

// writeTxns writes a pack with txns, and returns its size.
func writeTxns(w *pack.Writer, txns []*wal.Txn) (int64, error) {
	pages := newPageReader(txns)
	defer pages.release()
	for v := range versions(txns) {
		page, err := pages.read(v)
		if err == nil {
			err = w.AddSummed(v.Pgno, v.txn.ID, page, uint32(v.Sum)) // as read has made sure
		}
		if err != nil {
			return 0, err
		}
	}
	infos := make([]wal.TxnInfo, len(txns))
	for i, t := range txns {
		infos[i] = t.TxnInfo
	}
	last := txns[len(txns)-1]
	return w.Finish(infos, wal.Mark{Txn: last.TxnInfo, PageSize: last.PageSize, Log: last.End})
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
	log, span, ok := spanOf(txns)
	if !ok {
		return r
	}
	r.span, r.from = spans.Get().(*[spanSize]byte), span.off
	if n, err := log.ReadAt(r.span[:span.length], span.off); int64(n) == span.length && (err == nil || errors.Is(err, io.EOF)) {
		r.source = log
	}
	return r
}

func (r *pageReader) release() {
	if r.span != nil {
		spans.Put(r.span)
	}
}

// errOverwritten says that a page is not what was captured.
var errOverwritten = errors.New("it was overwritten before it could be saved")

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
		return nil, fmt.Errorf("page %d of transaction %d: %w (checksum %s, captured %s)", v.Pgno, v.txn.ID, errOverwritten, sum, v.Sum)
	}
	return page, nil
}
