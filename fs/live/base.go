package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/walback/walback/wal"
)

// errNotDatabase says that there is nothing to follow in a file.
var errNotDatabase = errors.New("not a database")

// takeIn starts following the database: it goes on in the generation that the
// sink knows of if nothing was missed, and begins a new one otherwise. The
// caller holds d.mu. A file that is no database is left idle, and so is one that
// a transaction has half written: the end of its journal brings it here again.
func (d *database) takeIn() {
	if d.set.isClosed() {
		return
	}
	if d.halfWritten() {
		return
	}
	f, header, err := d.openFile()
	if err != nil {
		if !errors.Is(err, errNotDatabase) {
			d.fail(err)
		}
		return
	}
	defer f.Close()
	if err := d.prepare(f, header); err != nil {
		d.fail(err)
		return
	}
	past, known := d.sink.Resume()
	mark := past.Mark
	d.last.Time = max(d.last.Time, mark.Txn.Time)
	if known && !past.Ended {
		ok, err := d.resume(f, header, mark)
		if err != nil {
			d.fail(err)
			return
		}
		if ok {
			d.logger().Info("capture goes on", "transaction", mark.Txn.ID)
			d.look()
			return
		}
		d.logger().Warn("the database changed while it was not captured; a new generation begins",
			"last transaction", mark.Txn.ID)
	}
	d.beginFrom(f, header)
}

// halfWritten reports whether a journal tells that a transaction is under way
// or has to be rolled back. The database is left idle then. The caller holds d.mu.
func (d *database) halfWritten() bool {
	hot, err := d.journalHot()
	if err != nil {
		d.fail(err)
		return true
	}
	if hot {
		d.dropImage()
		d.phase = idle
	}
	return hot
}

// begin starts a new generation, as takeIn does. The caller holds d.mu.
func (d *database) begin() {
	if d.halfWritten() {
		return
	}
	f, header, err := d.openFile()
	if errors.Is(err, errNotDatabase) {
		d.phase = idle
		return
	}
	if err != nil {
		d.fail(err)
		return
	}
	defer f.Close()
	if err := d.prepare(f, header); err != nil {
		d.fail(err)
		return
	}
	d.beginFrom(f, header)
}

// prepare gets ready for following the file f, which has the header.
func (d *database) prepare(f *os.File, header wal.DatabaseHeader) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if d.sink == nil {
		if d.sink, err = d.set.open(d.path); err != nil {
			return err
		}
	}
	d.stat, d.pageSize = st, header.PageSize
	d.touched, d.rescan, d.copied = nil, false, nil
	return nil
}

// openFile opens the backing database file and reads its header.
func (d *database) openFile() (*os.File, wal.DatabaseHeader, error) {
	f, err := os.Open(d.file())
	if errors.Is(err, os.ErrNotExist) {
		return nil, wal.DatabaseHeader{}, errNotDatabase
	}
	if err != nil {
		return nil, wal.DatabaseHeader{}, err
	}
	header, err := readHeader(f)
	if err != nil {
		f.Close()
		return nil, header, err
	}
	return f, header, nil
}

// isDatabase reports whether the main file can be taken in.
func (d *database) isDatabase() bool {
	f, _, err := d.openFile()
	if err != nil {
		return false
	}
	f.Close() // only read
	return true
}

// readHeader reads the header of a database file; errNotDatabase says that
// it is none.
func readHeader(f *os.File) (wal.DatabaseHeader, error) {
	var b [wal.DatabaseHeaderSize]byte
	if _, err := f.ReadAt(b[:], 0); errors.Is(err, io.EOF) {
		return wal.DatabaseHeader{}, errNotDatabase
	} else if err != nil {
		return wal.DatabaseHeader{}, err
	}
	header, err := wal.ParseDatabaseHeader(b[:])
	if err != nil {
		return header, errNotDatabase
	}
	return header, nil
}

// resume tries to go on behind mark. It is proof that nothing was missed when
// the database file, with the frames of the log up to the mark laid over it,
// has the mark's checksum: frames behind the mark are in the file only after
// they were saved, and then the mark would be behind them.
func (d *database) resume(f *os.File, header wal.DatabaseHeader, mark wal.Mark) (bool, error) {
	if mark.PageSize != d.pageSize {
		return false, nil
	}
	if err := d.openLog(); err != nil {
		return false, err
	}
	sums, err := fileSums(f, header)
	if err != nil {
		return false, err
	}
	tracker := wal.NewTracker(wal.Position{})
	if d.log != nil && !mark.Log.IsZero() {
		at := wal.NewTracker(mark.Log)
		same, err := at.Check(d.log)
		if err != nil {
			return false, err
		}
		if same {
			tracker = at
			if err := replay(d.log, mark.Log, sums); err != nil {
				return false, err
			}
		}
	}
	if sums.Size() != mark.Txn.Size || sums.Total() != mark.Txn.Checksum {
		return false, nil
	}
	d.sums, d.tracker, d.last = sums, tracker, mark.Txn
	d.phase, d.err, d.backoff = following, nil, 0
	d.hint.SetPageSize(d.pageSize)
	return true, nil
}

// replay lays the log's frames up to the position over sums.
func replay(log io.ReaderAt, to wal.Position, sums *wal.PageSums) error {
	if to.Frames == 0 {
		return nil
	}
	err := wal.NewTracker(wal.Position{}).Look(log, func(c wal.Commit) error {
		sums.Apply(c)
		if c.End.Frames >= to.Frames {
			return errReplayed
		}
		return nil
	})
	if errors.Is(err, errReplayed) {
		return nil
	}
	return err
}

var errReplayed = errors.New("replayed")

// fileSums reads the whole database file and returns the checksums of its pages.
func fileSums(f *os.File, header wal.DatabaseHeader) (*wal.PageSums, error) {
	size, err := databasePages(f, header)
	if err != nil {
		return nil, err
	}
	sums := wal.NewPageSums(header.PageSize)
	for p, err := range filePageSeq(context.Background(), f, header.PageSize, size) {
		if err != nil {
			return nil, err
		}
		sums.Set(p.Pgno, wal.PageSum(p.Pgno, p.Data))
	}
	return sums, nil
}

// filePageSeq yields the first size pages of f, read in large pieces.
func filePageSeq(ctx context.Context, f io.ReaderAt, pageSize int, size wal.Pgno) func(func(wal.Page, error) bool) {
	return func(yield func(wal.Page, error) bool) {
		buf := make([]byte, max(1<<20, pageSize))
		per := wal.Pgno(len(buf) / pageSize)
		for first := wal.Pgno(1); first <= size; first += per {
			n := min(per, size-first+1)
			b := buf[:int(n)*pageSize]
			err := ctx.Err()
			if err == nil {
				_, err = readZeroed(f, b, int64(first-1)*int64(pageSize))
			}
			if err != nil {
				yield(wal.Page{}, fmt.Errorf("reading the base image: %w", err))
				return
			}
			for i := range n {
				if !yield(wal.Page{Pgno: first + i, Data: b[int(i)*pageSize:][:pageSize]}, nil) {
					return
				}
			}
		}
	}
}

// inGate is the size in bytes up to which a base image is read while the gate
// is held, so that it is exact.
const inGate = 16 << 20

// beginFrom starts a new generation with what f and the log hold: at once for
// a small database, in the background for a large one.
func (d *database) beginFrom(f *os.File, header wal.DatabaseHeader) {
	d.dropImage()
	d.hint.SetPageSize(d.pageSize)
	if err := d.openLog(); err != nil {
		d.fail(err)
		return
	}
	size, err := databasePages(f, header)
	if err != nil {
		d.fail(err)
		return
	}
	overlay := newOverlay(size, d.pageSize)
	d.tracker = wal.NewTracker(wal.Position{})
	if d.log != nil {
		err := d.tracker.Look(d.log, func(c wal.Commit) error {
			if c.PageSize != d.pageSize {
				return errPageSize
			}
			overlay.commit(c)
			return nil
		})
		if err != nil {
			d.fail(err)
			return
		}
	}
	if int64(max(size, overlay.size))*int64(d.pageSize) > d.set.inGate {
		d.beginFuzzy(size, overlay)
		return
	}
	if err := d.beginExact(f, header, overlay); err != nil {
		d.fail(err)
	}
}

// beginExact reads the base image while the caller holds d.mu.
func (d *database) beginExact(f *os.File, header wal.DatabaseHeader, over *overlay) error {
	src := source{log: d.log, file: f}
	sums, err := fileSums(f, header)
	if err != nil {
		return err
	}
	sums.Resize(over.size, d.pageSize)
	for p, frame := range over.frames {
		sums.Set(p, frame.Sum)
	}
	txn := wal.TxnInfo{ID: 1, Time: d.now(), Size: over.size, Pages: over.size, Checksum: sums.Total()}
	err = d.sink.Begin(wal.Base{
		Mark:  wal.Mark{Txn: txn, PageSize: d.pageSize, Log: d.tracker.Position()},
		Pages: over.pages(src),
	})
	if err != nil {
		return err
	}
	d.sums, d.last = sums, txn
	d.phase, d.err, d.backoff = following, nil, 0
	d.logger().Info("a new generation begins", "pages", txn.Size, "checksum", txn.Checksum)
	return nil
}

// overlay is what a log lays over a database file: the last version of each of
// its pages, and the size after the last commit.
type overlay struct {
	pageSize int
	size     wal.Pgno
	frames   map[wal.Pgno]wal.Frame
	salt     uint32 // of the epoch the frames lie in
}

func newOverlay(size wal.Pgno, pageSize int) *overlay {
	return &overlay{pageSize: pageSize, size: size, frames: make(map[wal.Pgno]wal.Frame)}
}

func (o *overlay) commit(c wal.Commit) {
	if o.salt != c.End.Salt1 {
		o.backfilled()
		o.salt = c.End.Salt1
	}
	for _, f := range c.Frames {
		o.frames[f.Pgno] = f
	}
	if c.Size < o.size {
		maps.DeleteFunc(o.frames, func(p wal.Pgno, _ wal.Frame) bool { return p > c.Size })
	}
	o.size = c.Size
}

// backfilled notes that a checkpoint copied all of the log into the file: what
// lay in the log is read from the file now.
func (o *overlay) backfilled() {
	for p, f := range o.frames {
		o.frames[p] = fileFrame(p, f.Sum, o.pageSize)
	}
}

// sorted returns the frames in page order.
func (o *overlay) sorted() []wal.Frame {
	frames := make([]wal.Frame, 0, len(o.frames))
	for _, p := range slices.Sorted(maps.Keys(o.frames)) {
		frames = append(frames, o.frames[p])
	}
	return frames
}

// pages yields the database as src and the overlay hold it.
func (o *overlay) pages(src source) func(func(wal.Page, error) bool) {
	return func(yield func(wal.Page, error) bool) {
		page := make([]byte, o.pageSize)
		for p := wal.Pgno(1); p <= o.size; p++ {
			frame, ok := o.frames[p]
			if !ok {
				frame = fileFrame(p, 0, o.pageSize)
			}
			if _, err := src.ReadAt(page, frame.Off); err != nil {
				yield(wal.Page{}, fmt.Errorf("reading page %d of the base image: %w", p, err))
				return
			}
			if !yield(wal.Page{Pgno: p, Data: page}, nil) {
				return
			}
		}
	}
}
