package live

import (
	"errors"
	"io"
	"iter"
	"maps"
	"math"
	"slices"

	"github.com/walback/walback/wal"
)

// logEnded forgets the log: it was restarted, cut short or removed, after
// everything in it had been captured and saved. The caller holds d.mu.
//
// SQLite does that once a checkpoint has copied all of the log to the file. So
// the pages of the log must be in the file as they were captured. They are not
// when somebody else took the log away, and with SQLite before 3.41, which can
// commit frames that are not part of the chain of checksums (a transaction that
// spilled, wrote a page again, and went back to a savepoint): no reader of the
// log finds them, not even SQLite's recovery.
func (d *database) logEnded() {
	if d.tracker != nil {
		d.tracker.Reset()
	}
	d.newest = nil
	p, err := d.uncopied()
	d.epochs = nil // all of them have been compared
	if err != nil {
		d.fail(err)
		return
	}
	if p != 0 {
		d.logger().Warn("the log ended, and the database file has not what the log had", "page", p)
		d.takeIn()
		return
	}
	if d.image != nil {
		d.image.dirty.backfilled()
	}
}

// uncopied returns a page of the log that is in the file otherwise than it was
// captured, or zero.
func (d *database) uncopied() (wal.Pgno, error) {
	if d.phase != following {
		return 0, nil
	}
	pages := d.ending
	if pages == nil {
		pages = d.logPages()
	}
	if d.epochs != nil {
		pages = append(pages, d.epochs.pending()...)
	}
	return d.uncopiedOf(pages)
}

// uncopiedOf returns one of pages that is in the file otherwise than it was
// captured, or zero.
func (d *database) uncopiedOf(pages []wal.Pgno) (wal.Pgno, error) {
	if len(pages) == 0 {
		return 0, nil
	}
	p, err := d.notInFile(func(yield func(wal.Pgno, wal.Checksum) bool) {
		for _, p := range pages {
			if p <= d.sums.Size() && !yield(p, d.sums.At(p)) {
				return
			}
		}
	})
	if errors.Is(err, errNotDatabase) {
		return 0, nil // it is gone, or was emptied: not this function's concern
	}
	return p, err
}

// notInFile returns one of pages that has another checksum in the file, or zero.
func (d *database) notInFile(pages iter.Seq2[wal.Pgno, wal.Checksum]) (wal.Pgno, error) {
	f, _, err := d.openFile()
	if err != nil {
		return 0, err
	}
	defer f.Close() // only read
	page := make([]byte, d.pageSize)
	for p, sum := range pages {
		if _, err := readZeroed(f, page, int64(p-1)*int64(d.pageSize)); err != nil {
			return 0, err
		}
		if wal.PageSum(p, page) != sum {
			return p, nil
		}
	}
	return 0, nil
}

// logPages returns the pages that have a frame anywhere in the log, also in
// what is left of epochs before. The frames need not be valid.
func (d *database) logPages() []wal.Pgno { return d.logPagesTo(math.MaxUint32) }

// logPagesTo returns the pages that have one of the first so many frames.
func (d *database) logPagesTo(frames uint32) []wal.Pgno {
	if d.phase != following || d.log == nil {
		return nil
	}
	found := make(map[wal.Pgno]struct{})
	var b [wal.FrameHeaderSize]byte
	stride := int64(wal.FrameHeaderSize + d.pageSize)
	end := wal.HeaderSize + int64(frames)*stride
	for off := int64(wal.HeaderSize); off < end; off += stride {
		if _, err := d.log.ReadAt(b[:], off); err != nil {
			if !errors.Is(err, io.EOF) {
				d.logger().Warn("reading the log", "error", err)
			}
			break
		}
		if p := wal.DecodeFrameHeader(b[:]).Pgno; p != 0 {
			found[p] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
