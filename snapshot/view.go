package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// View is a database as of one transaction. It never changes and is safe for
// concurrent use. Its methods fail with a *pack.CorruptError, or what reading a
// pack failed with; they never return bytes that are not the database's.
type View struct {
	at       wal.TxnInfo
	pageSize int
	sources  []source // newest first; the last is a snapshot or map
	layers   []*layer
	cuts     lazy[[]cut]
	visited  visited
	scan     readahead
	scratch  sync.Pool // *[]byte of a page each
	closed   atomic.Bool
	renewal  renewal

	mu      sync.Mutex
	onClose []func() error // guarded by mu
}

var _ io.ReaderAt = (*View)(nil)
var _ io.WriterTo = (*View)(nil)

// source is a pack and the newest transaction to show of it.
type source struct {
	*pack.Reader
	max wal.TXID
}

// NewView returns the database as of the transaction at, with pages of pageSize
// bytes, laid together from packs, newest first. The last of them is a snapshot
// or map at or before the transaction, and the segments in front of it hold all
// transactions since. Of each pack, what the packs in front of it begin with or
// go beyond is passed over: so the packs of a fork hide what its parent alone
// went on with. The packs stay the caller's.
func NewView(at wal.TxnInfo, pageSize int, packs ...*pack.Reader) (*View, error) {
	v := &View{at: at, pageSize: pageSize, visited: newVisited(at.Size)}
	v.scratch.New = func() any { b := make([]byte, pageSize); return &b }
	if len(packs) == 0 {
		return nil, fmt.Errorf("view of transaction %d: no packs", at.ID)
	}
	max := at.ID // what has to be found in the packs that follow
	for i, p := range packs {
		info, name := p.Info(), p.Place().Name
		if info.PageSize != pageSize {
			return nil, fmt.Errorf("view of transaction %d: %s has pages of %d bytes, want %d", at.ID, name, info.PageSize, pageSize)
		}
		if base := i == len(packs)-1; base != (info.Kind != pack.Segment) {
			return nil, fmt.Errorf("view of transaction %d: %s: want segments and one snapshot or map under them", at.ID, name)
		}
		for _, t := range []wal.TxnInfo{info.First, info.Last} {
			if t.ID == at.ID && t.ID <= max && t != at && !info.Fuzzy {
				return nil, fmt.Errorf("view of transaction %d: %s tells otherwise of it: %+v, want %+v", at.ID, name, t, at)
			}
		}
		switch {
		case info.Kind != pack.Segment && (info.Last.ID > at.ID || info.Fuzzy && info.Last.ID == at.ID):
			return nil, fmt.Errorf("view of transaction %d: %s is of a later one, or of none yet (fuzzy)", at.ID, name)
		case info.Last.ID < max:
			return nil, fmt.Errorf("view of transaction %d: transactions %d to %d are missing above %s",
				at.ID, info.Last.ID+1, max, name)
		case info.Kind != pack.Segment:
			max = info.Last.ID
		case info.First.ID > max:
			return nil, fmt.Errorf("view of transaction %d: nothing is to be seen of %s", at.ID, name)
		}
		v.sources = append(v.sources, source{p, max})
		max = info.First.ID - 1
	}
	v.layers = stack(v.sources)
	return v, nil
}

// Txn returns the transaction the view shows.
func (v *View) Txn() wal.TxnInfo { return v.at }

// PageSize returns the size of a page in bytes.
func (v *View) PageSize() int { return v.pageSize }

// Size returns the size of the database in bytes.
func (v *View) Size() int64 { return int64(v.at.Size) * int64(v.pageSize) }

// ReadPage reads page p into dst, which has the length of a page.
func (v *View) ReadPage(p wal.Pgno, dst []byte) error {
	if len(dst) != v.pageSize {
		panic(fmt.Sprintf("snapshot: reading a page of %d bytes into %d", v.pageSize, len(dst)))
	}
	if v.closed.Load() {
		return fs.ErrClosed
	}
	if p == 0 || p > v.at.Size {
		return fmt.Errorf("page %d of a database of %d pages: %w", p, v.at.Size, io.EOF)
	}
	err := v.current().readPage(p, dst)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	nothing := func() int64 { return 0 } // one page is read or not
	return v.lasting(context.Background(), nothing, func(c *View) error { return c.readPage(p, dst) })
}

// readPage is ReadPage, of the packs that v has.
func (v *View) readPage(p wal.Pgno, dst []byte) error {
	src, ref, ok, err := v.locate(p)
	switch {
	case err != nil:
		return err
	case ok:
		return src.Read(ref, dst)
	}
	clear(dst)
	return nil
}

// locate returns where page p lies, false when nowhere: then it is zeros.
func (v *View) locate(p wal.Pgno) (source, pack.Ref, bool, error) {
	if len(v.layers) > 1 && v.visited.first(p) {
		v.foresee(p)
	}
	for _, l := range v.layers {
		src, ref, ok, err := l.find(p)
		if err != nil {
			return source{}, pack.Ref{}, false, err
		}
		if !ok {
			continue
		}
		cut, err := v.isCut(ref.Pgno, ref.TXID)
		return src, ref, err == nil && !cut, err
	}
	return source{}, pack.Ref{}, false, nil
}

// pagesAtOnce is how many of the pages of one read are looked for at a time: each
// may lie in an object of its own.
const pagesAtOnce = 8

// ReadAt implements io.ReaderAt on the database file.
func (v *View) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("snapshot: reading at %d: %w", off, fs.ErrInvalid)
	}
	n := int(max(0, min(int64(len(b)), v.Size()-off)))
	got, err := v.readAt(b[:n], off)
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return got, err
}

// readAt is ReadAt within the database.
func (v *View) readAt(b []byte, off int64) (int, error) {
	n, err := v.readPages(b, off)
	if err == nil && off%int64(v.pageSize) == 0 {
		v.current().fetchChildren(b, wal.Pgno(off/int64(v.pageSize))+1)
	}
	return n, err
}

// readPages reads what b has room for, several pages at the same time.
func (v *View) readPages(b []byte, off int64) (int, error) {
	size := int64(v.pageSize)
	first := off / size
	pages := int((off+int64(len(b))+size-1)/size - first)
	v.current().readAhead(first, int64(pages))
	if pages <= 1 {
		if err := v.readPart(b, off); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	// part is where what b has of the i-th page begins.
	part := func(i int) int { return int(max(0, min((first+int64(i))*size-off, int64(len(b))))) }
	errs := make([]error, pages)
	var reading sync.WaitGroup
	for k := range min(pages, pagesAtOnce) {
		reading.Go(func() {
			for i := k; i < pages; i += pagesAtOnce {
				errs[i] = v.readPart(b[part(i):part(i+1)], off+int64(part(i)))
			}
		})
	}
	reading.Wait()
	for i, err := range errs {
		if err != nil {
			return part(i), err
		}
	}
	return len(b), nil
}

// readPart reads what lies in one page.
func (v *View) readPart(b []byte, off int64) error {
	size := int64(v.pageSize)
	p, skip := wal.Pgno(off/size)+1, off%size
	if len(b) == 0 {
		return nil
	}
	if len(b) == v.pageSize {
		return v.ReadPage(p, b)
	}
	page := v.scratch.Get().(*[]byte)
	defer v.scratch.Put(page)
	err := v.ReadPage(p, *page)
	if err == nil {
		copy(b, (*page)[skip:])
	}
	return err
}

// OnClose has f called by Close, after what was registered later.
func (v *View) OnClose(f func() error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.onClose = append(v.onClose, f)
}

// Close gives back what the view was made from. Nothing may be reading then;
// later reads fail with fs.ErrClosed. A second Close does nothing.
func (v *View) Close() error {
	v.closed.Store(true)
	v.scan.asking.Wait()
	v.mu.Lock()
	fs := v.onClose
	v.onClose = nil
	v.mu.Unlock()
	var errs []error
	for i := len(fs) - 1; i >= 0; i-- {
		errs = append(errs, fs[i]())
	}
	return errors.Join(errs...)
}
