package live

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/walback/walback/wal"
)

// fileSums reads the first size pages of a database file and returns their
// checksums.
func fileSums(f io.ReaderAt, pageSize int, size wal.Pgno) (*wal.PageSums, error) {
	sums := wal.NewPageSums(pageSize)
	for p, err := range filePageSeq(context.Background(), f, pageSize, size) {
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

// startImage begins a new generation with a whole image of what f, of which size
// pages count, and the log hold: at once for a small database, in the background
// for a large one. The caller holds d.mu.
func (d *database) startImage(f *os.File, size wal.Pgno) error {
	over, err := d.wholeLog(size)
	if err != nil {
		return err
	}
	if d.isLarge(max(size, over.size)) || d.passed() {
		return d.startReading(size, over, nil)
	}
	sums, err := fileSums(f, d.pageSize, size)
	if err != nil {
		return err
	}
	over.apply(sums)
	return d.beginExact(f, sums, over)
}

// wholeLog looks at the log from its beginning and returns what it lays over a
// file of size pages.
func (d *database) wholeLog(size wal.Pgno) (*overlay, error) {
	over := newOverlay(size, d.pageSize)
	d.tracker = wal.NewTracker(wal.Position{})
	if d.log == nil {
		return over, nil
	}
	return over, d.tracker.Look(d.log, func(c wal.Commit) error {
		if c.PageSize != d.pageSize {
			return errPageSize
		}
		over.commit(c)
		return nil
	})
}

// beginExact starts a new generation with an image that is read while the
// caller holds d.mu. sums are those of the whole database.
func (d *database) beginExact(f *os.File, sums *wal.PageSums, over *overlay) error {
	txn := wal.TxnInfo{ID: 1, Time: d.now(), Size: over.size, Pages: over.size, Checksum: sums.Total()}
	err := d.sink.Begin(wal.Base{
		Mark:  wal.Mark{Txn: txn, PageSize: d.pageSize, Log: d.tracker.Position()},
		Pages: over.pages(source{log: d.log, file: f}),
	})
	if err != nil {
		return err
	}
	d.follow(sums, txn)
	d.imaged = txn.ID
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

// apply lays the overlay over the sums of the file.
func (o *overlay) apply(sums *wal.PageSums) {
	sums.Resize(o.size, o.pageSize)
	for p, f := range o.frames {
		sums.Set(p, f.Sum)
	}
}

// frame returns where page p is, which has the checksum sum.
func (o *overlay) frame(p wal.Pgno, sum wal.Checksum) wal.Frame {
	if f, ok := o.frames[p]; ok {
		return f
	}
	return fileFrame(p, sum, o.pageSize)
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
			if _, err := src.ReadAt(page, o.frame(p, 0).Off); err != nil {
				yield(wal.Page{}, fmt.Errorf("reading page %d of the base image: %w", p, err))
				return
			}
			if !yield(wal.Page{Pgno: p, Data: page}, nil) {
				return
			}
		}
	}
}
