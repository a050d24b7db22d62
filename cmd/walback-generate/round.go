package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// round is what is committed between two checkpoints of the database. Its pages
// are copied, so that SQLite can write over the log while they are shipped.
type round struct {
	segments [][]*wal.Txn // what goes into each
	pages    int          // of all of them
	copied   *os.File     // in memory
	size     int64
	page     []byte
}

func newRound() (*round, error) {
	fd, err := unix.MemfdCreate("round", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory for pages: %w", err)
	}
	return &round{copied: os.NewFile(uintptr(fd), "round")}, nil
}

// keep copies the pages of a transaction, which are to be had there from now on.
func (r *round) keep(t *wal.Txn) error {
	if len(r.page) != t.PageSize {
		r.page = make([]byte, t.PageSize)
	}
	for i := range t.Frames {
		f := &t.Frames[i]
		if _, err := t.Source.ReadAt(r.page, f.Off); err != nil {
			return err
		}
		if _, err := r.copied.WriteAt(r.page, r.size); err != nil {
			return err
		}
		f.Off = r.size
		r.size += int64(t.PageSize)
	}
	r.pages += len(t.Frames)
	t.Source = r.copied
	return nil
}

// clear makes it an empty one. Nobody may want its pages any more.
func (r *round) clear() { r.segments, r.pages, r.size = nil, 0, 0 }

func (r *round) close() error { return r.copied.Close() }
