package pack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/walback/walback/wal"
)

// WriterOptions says how a pack is written; the zero value is fine for segments
// and snapshots.
type WriterOptions struct {
	// GroupSize is about how many bytes are compressed together, of pages or of
	// what they differ in: 64 KiB when zero, at least one page, at most 4 MiB.
	GroupSize int
	// Raw compresses nothing: for pieces that are kept locally for a while.
	Raw bool
	// Fuzzy marks a snapshot as read while the database was being written.
	Fuzzy bool
	// Thinned marks a segment as whole for some of its transactions only.
	Thinned bool
	// Concurrency is how many groups are compressed at a time; what is written
	// is the same for any. 1 when zero.
	Concurrency int
	// Sealer protects the blocks: Checksummed when nil.
	Sealer Sealer
}

// mostPlain is about how many bytes of pages a group has at most that are
// differences. Twice as many would save an eighth of the bytes of small commits,
// and reading one page would fetch half as much again.
const mostPlain = 512 << 10

// Writer writes a pack. It is not safe for concurrent use. A Writer that failed
// stays failed: every later call returns the first error.
type Writer struct {
	out    *bufio.Writer
	off    int64 // bytes written
	place  Place
	o      WriterOptions
	sealer Sealer
	err    error

	root root
	last struct { // the last version added
		pgno wal.Pgno
		id   wal.TXID
	}
	added tally

	coder   keyCoder
	group   *group   // being filled
	running []*group // being encoded, in the order of the object
	free    []*group
	index   []byte // plaintext of the index block being filled
	indexes [][]byte
}

// group is one group on its way into the object.
type group struct {
	pages   pagesCoder
	keys    []byte        // as in the index block
	sums    []byte        // likewise
	first   version       // its first version, when it begins an index block
	ends    bool          // the index block ends with it
	block   []byte        // encoded
	encoded chan struct{} // closed when block is ready; nil: encode when written
}

type version struct {
	pgno wal.Pgno
	id   wal.TXID
}

// NewWriter returns a Writer of a pack for place. Nothing is written to w
// before the first group is full.
func NewWriter(w io.Writer, kind Kind, pageSize int, place Place, o WriterOptions) *Writer {
	if o.GroupSize == 0 {
		o.GroupSize = 64 << 10
	}
	o.GroupSize = min(max(o.GroupSize, pageSize), 4<<20)
	o.Concurrency = max(o.Concurrency, 1)
	if o.Sealer == nil {
		o.Sealer = Checksummed{}
	}
	pw := &Writer{
		out:    bufio.NewWriterSize(w, 16<<10),
		place:  place,
		o:      o,
		sealer: o.Sealer,
		root:   root{Info: Info{Kind: kind, PageSize: pageSize, Fuzzy: o.Fuzzy, Thinned: o.Thinned}},
		added:  newTally(),
		group:  newGroup(pageSize),
	}
	switch {
	case kind != Segment && kind != Snapshot:
		pw.err = fmt.Errorf("pack %s: unknown kind %d", place.Name, kind)
	case !wal.ValidPageSize(pageSize):
		pw.err = fmt.Errorf("pack %s: %d is no page size", place.Name, pageSize)
	case o.Fuzzy && kind != Snapshot:
		pw.err = fmt.Errorf("pack %s: only a snapshot can be fuzzy", place.Name)
	case o.Thinned && kind != Segment:
		pw.err = fmt.Errorf("pack %s: only a segment can be thinned", place.Name)
	default:
		pw.write(appendHeader(nil, kind, pageSize, o.Fuzzy))
	}
	return pw
}

// Add adds a version. Versions come in ascending order of (pgno, id), and a
// snapshot has only one of each page. The page is copied.
func (w *Writer) Add(pgno wal.Pgno, id wal.TXID, page []byte) error {
	return w.AddSummed(pgno, id, page, pageSum(pgno, page))
}

// AddSummed is Add for whom has made sure that sum is the lower half of the page's
// checksum.
func (w *Writer) AddSummed(pgno wal.Pgno, id wal.TXID, page []byte, sum uint32) error {
	if w.err == nil {
		w.err = w.add(pgno, id, page, sum)
	}
	return w.err
}

func (w *Writer) add(pgno wal.Pgno, id wal.TXID, page []byte, sum uint32) error {
	switch {
	case len(page) != w.root.PageSize:
		return fmt.Errorf("pack %s: page %d has %d bytes, want %d", w.place.Name, pgno, len(page), w.root.PageSize)
	case pgno == 0 || id == 0 || id > wal.MaxTXID:
		return fmt.Errorf("pack %s: no version can be of page %d and transaction %d", w.place.Name, pgno, id)
	case pgno < w.last.pgno, pgno == w.last.pgno && (id <= w.last.id || w.root.Kind == Snapshot):
		return fmt.Errorf("pack %s: page %d of transaction %d added behind page %d of transaction %d",
			w.place.Name, pgno, id, w.last.pgno, w.last.id)
	}
	w.added.add(pgno, id)
	if w.root.Versions == 0 {
		w.root.MinPgno = pgno
	}
	w.root.Versions++
	w.root.MaxPgno = pgno
	similar := pgno == w.last.pgno && w.group.pages.pages > 0 && !w.o.Raw
	w.last.pgno, w.last.id = pgno, id

	g := w.group
	if w.coder.len == 0 {
		g.first = version{pgno, id}
	}
	g.keys = w.coder.append(g.keys, pgno, id)
	g.sums = binary.BigEndian.AppendUint32(g.sums, sum)
	g.pages.add(page, similar)
	if g.pages.size()+w.root.PageSize > w.o.GroupSize || g.pages.plain()+w.root.PageSize > max(w.o.GroupSize, mostPlain) {
		return w.cut()
	}
	return nil
}

// cut ends the group being filled and hands it to be encoded.
func (w *Writer) cut() error {
	g := w.group
	if w.coder.len >= keysPerIndex {
		g.ends = true
		w.coder = keyCoder{}
	}
	if w.o.Concurrency > 1 {
		g.encoded = make(chan struct{})
		go func() {
			defer close(g.encoded)
			w.encode(g)
		}()
	}
	w.running = append(w.running, g)
	if len(w.running) >= w.o.Concurrency {
		if err := w.writeGroup(); err != nil {
			return err
		}
	}
	if n := len(w.free); n > 0 {
		w.group, w.free = w.free[n-1], w.free[:n-1]
	} else {
		w.group = newGroup(w.root.PageSize)
	}
	return nil
}

// groups are those that no Writer uses.
var groups = sync.Pool{New: func() any { return new(group) }}

func newGroup(pageSize int) *group {
	g := groups.Get().(*group)
	g.reset(pageSize)
	return g
}

// encode makes the block of g.
func (w *Writer) encode(g *group) {
	if w.o.Raw {
		g.block, g.pages.bytes = g.pages.bytes, g.block
		return
	}
	g.block = g.pages.appendBlock(g.block[:0])
}

// reset empties g.
func (g *group) reset(pageSize int) {
	g.pages.reset(pageSize)
	*g = group{pages: g.pages, keys: g.keys[:0], sums: g.sums[:0], block: g.block[:0]}
}

// writeGroup writes the oldest of the running groups.
func (w *Writer) writeGroup() error {
	g := w.running[0]
	w.running = append(w.running[:0], w.running[1:]...)
	if g.encoded == nil {
		w.encode(g)
	} else {
		<-g.encoded
	}
	var err error
	if g.block, err = w.seal(g.block); err != nil {
		return err
	}
	stored := len(g.block)
	r := &w.root
	if len(w.index) == 0 {
		r.index = append(r.index, indexEntry{pgno: g.first.pgno, txid: g.first.id})
	}
	e := &r.index[len(r.index)-1]
	e.groups++
	e.keys += g.pages.pages
	e.bytes += int64(stored)
	w.index = appendGroupKeys(w.index, stored, g.pages.pages, g.keys, g.sums)
	if g.ends {
		w.endIndex()
	}
	g.reset(r.PageSize)
	w.free = append(w.free, g)
	return nil
}

// endIndex ends the index block being filled. It is sealed in Finish, when its
// place is known.
func (w *Writer) endIndex() {
	w.indexes = append(w.indexes, appendBlock(nil, w.index, w.o.Raw))
	w.index = w.index[:0]
}

// seal seals an encoded block, in its own memory if there is room, and writes
// it. It returns what it wrote.
func (w *Writer) seal(block []byte) ([]byte, error) {
	sealed := w.sealer.Seal(block[:0], block, w.place, w.off)
	return sealed, w.write(sealed)
}

func (w *Writer) write(b []byte) error {
	n, err := w.out.Write(b)
	w.off += int64(n)
	if err != nil {
		return fmt.Errorf("pack %s: writing: %w", w.place.Name, err)
	}
	return nil
}

// errFinished is what a Writer says after Finish.
var errFinished = errors.New("pack: the writer has finished")

// Finish writes what is left, and returns the size of the object. txns are all
// transactions of the pack, gapless and with strictly increasing times; for a
// segment that is not thinned, exactly txns[i].Pages versions of each must have been added. mark is
// where capture stands behind the last.
func (w *Writer) Finish(txns []wal.TxnInfo, mark wal.Mark) (int64, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.err = w.finish(txns, mark); w.err != nil {
		return 0, w.err
	}
	w.release()
	w.err = errFinished
	return w.off, nil
}

// release gives memory back that other Writers can use.
func (w *Writer) release() {
	for _, g := range append(w.free, w.group) {
		if g.pages.memory() <= maxPooledGroup && cap(g.block) <= maxPooledGroup {
			groups.Put(g)
		}
	}
	w.free, w.group = nil, nil
}

// maxPooledGroup is how large the memory of a group is at most that is kept for
// other Writers, in bytes.
const maxPooledGroup = 256 << 10

// Info returns what Open will tell of the pack. It is valid after Finish.
func (w *Writer) Info() Info { return w.root.Info }

func (w *Writer) finish(txns []wal.TxnInfo, mark wal.Mark) error {
	if err := w.check(txns, mark); err != nil {
		return fmt.Errorf("pack %s: %w", w.place.Name, err)
	}
	if w.group.pages.pages > 0 {
		if err := w.cut(); err != nil {
			return err
		}
	}
	for len(w.running) > 0 {
		if err := w.writeGroup(); err != nil {
			return err
		}
	}
	if len(w.index) > 0 {
		w.endIndex()
	}
	r := &w.root
	r.First, r.Last, r.Txns, r.Mark, r.Shrinks = txns[0], txns[len(txns)-1], len(txns), mark, shrinks(txns)
	for i, block := range w.indexes {
		sealed, err := w.seal(block)
		if err != nil {
			return err
		}
		r.index[i].stored = len(sealed)
	}
	for range tableCount(len(txns)) {
		part := txns[:min(len(txns), txnsPerTable)]
		txns = txns[len(part):]
		sealed, err := w.seal(appendBlock(nil, appendTable(nil, r.First, part), w.o.Raw))
		if err != nil {
			return err
		}
		r.tables = append(r.tables, tableEntry{delay: uint64(part[0].Time - r.First.Time), stored: len(sealed)})
	}
	off := w.off
	sealed, err := w.seal(appendBlock(nil, r.append(nil), w.o.Raw))
	if err != nil {
		return err
	}
	if err := w.write(appendTrailer(nil, off, len(sealed), w.place)); err != nil {
		return err
	}
	if err := w.out.Flush(); err != nil {
		return fmt.Errorf("pack %s: writing: %w", w.place.Name, err)
	}
	return nil
}
