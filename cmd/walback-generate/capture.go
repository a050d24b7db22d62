package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// capture reads the log, as a mount does, and gives the commits the times that
// they are said to have been made at.
type capture struct {
	path    string
	log     *os.File // nil: there is none yet
	tracker *wal.Tracker
	sums    *wal.PageSums
	last    wal.TxnInfo
	changes *changes
}

// beginCapture begins a generation with an image of the database, which nobody
// has written to since it was checkpointed.
func beginCapture(path string, w *generations.Writer, at wal.Time) (*capture, error) {
	c := &capture{path: path, tracker: wal.NewTracker(wal.Position{}), changes: &changes{}}
	return c, c.begin(w, at)
}

func (c *capture) begin(w *generations.Writer, at wal.Time) (err error) {
	f, err := os.Open(c.path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	head := make([]byte, wal.DatabaseHeaderSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return err
	}
	h, err := wal.ParseDatabaseHeader(head)
	if err != nil {
		return err
	}
	c.sums = wal.NewPageSums(h.PageSize)
	for p, err := range pages(f, h.PageSize) {
		if err != nil {
			return err
		}
		c.sums.Set(p.Pgno, wal.PageSum(p.Pgno, p.Data))
	}
	c.last = wal.TxnInfo{ID: 1, Time: at, Size: c.sums.Size(), Pages: c.sums.Size(), Checksum: c.sums.Total()}
	return w.Begin(wal.Base{Mark: wal.Mark{Txn: c.last, PageSize: h.PageSize}, Pages: pages(f, h.PageSize)})
}

// pages yields the pages of a database file.
func pages(f io.ReaderAt, pageSize int) func(func(wal.Page, error) bool) {
	return func(yield func(wal.Page, error) bool) {
		in := io.NewSectionReader(f, 0, 1<<62)
		buf := make([]byte, 1<<20)
		for pgno := wal.Pgno(1); ; {
			n, err := io.ReadFull(in, buf)
			for b := buf[:n]; len(b) >= pageSize; b = b[pageSize:] {
				if !yield(wal.Page{Pgno: pgno, Data: b[:pageSize]}, nil) {
					return
				}
				pgno++
			}
			switch {
			case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
				return
			case err != nil:
				yield(wal.Page{}, err)
				return
			}
		}
	}
}

// look adds what has been committed to r as one segment. It must be one
// transaction for each of times.
func (c *capture) look(times []wal.Time, r *round) (err error) {
	if c.log == nil {
		if c.log, err = os.Open(c.path + "-wal"); err != nil {
			return err
		}
	}
	txns := make([]*wal.Txn, 0, len(times))
	err = c.tracker.Look(c.log, func(commit wal.Commit) error {
		if len(txns) == len(times) {
			return fmt.Errorf("%s: more than %d transactions were committed", c.path, len(times))
		}
		c.sums.Apply(commit)
		c.last = wal.TxnInfo{ID: c.last.ID + 1, Time: times[len(txns)], Size: commit.Size,
			Pages: wal.Pgno(len(commit.Frames)), Checksum: c.sums.Total()}
		txn := &wal.Txn{TxnInfo: c.last, PageSize: commit.PageSize, Frames: commit.Frames, Source: c.log, End: commit.End}
		if err := r.keep(txn); err != nil {
			return err
		}
		txns = append(txns, txn)
		return c.changes.add(txn)
	})
	if err == nil && len(txns) < len(times) {
		err = fmt.Errorf("%s: %d transactions were found, of %d", c.path, len(txns), len(times))
	}
	r.segments = append(r.segments, txns)
	return err
}

// compressed returns how many bytes the database takes as one pack. All of the log
// has been copied to the file, which therefore has to be what was captured.
func (c *capture) compressed() (int64, error) {
	f, err := os.Open(c.path)
	if err != nil {
		return 0, err
	}
	defer f.Close() // only read
	w := pack.NewWriter(io.Discard, pack.Snapshot, c.sums.PageSize(), pack.Place{}, packing)
	var sum wal.Checksum
	for p, err := range pages(f, c.sums.PageSize()) {
		if err == nil {
			sum ^= wal.PageSum(p.Pgno, p.Data)
			err = w.Add(p.Pgno, c.last.ID, p.Data)
		}
		if err != nil {
			return 0, err
		}
	}
	if sum != c.last.Checksum {
		return 0, fmt.Errorf("%s has the checksum %s, and %s was captured", c.path, sum, c.last.Checksum)
	}
	return w.Finish([]wal.TxnInfo{c.last}, wal.Mark{Txn: c.last, PageSize: c.sums.PageSize()})
}

func (c *capture) close() error {
	if c.log == nil {
		return nil
	}
	return c.log.Close()
}
