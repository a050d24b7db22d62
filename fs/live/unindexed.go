package live

import (
	"errors"
	"maps"

	"github.com/walback/walback/wal"
)

// A connection that locks all others out (EXCLUSIVE locking) has the wal-index in
// its own memory. What lies beside the database is then an index that others have
// left, and for a moment it may seem in use: the kernel tells a little after their
// locks are gone that they have closed it. Who asks later finds the log as it is.
// A gate cannot wait, and asks the file: what a checkpoint has copied there was
// committed, whoever knew of it.

// lookUnindexed takes what is in the log, and in the file as well, though the
// wal-index does not tell of it. It comes when the size of the file is set, which
// a checkpoint does when it has copied all of the log. The caller holds d.mu, and
// has looked.
func (d *database) lookUnindexed() {
	if d.log == nil || d.phase != following && d.phase != reading || d.indexes.Load() == 0 {
		return
	}
	copied, err := d.copiedBeyond()
	if err != nil {
		d.fail(err)
		return
	}
	if copied {
		d.unindexed = true
		d.look()
		d.unindexed = false
	}
}

// copiedBeyond reports whether there are transactions in the log behind what was
// captured, and all their pages are in the file.
func (d *database) copiedBeyond() (bool, error) {
	var size wal.Pgno
	sums := make(map[wal.Pgno]wal.Checksum)
	err := wal.NewTracker(d.tracker.Position()).Look(d.log, func(c wal.Commit) error {
		if c.PageSize != d.pageSize {
			return errPageSize
		}
		size = c.Size
		for _, f := range c.Frames {
			sums[f.Pgno] = f.Sum
		}
		return nil
	})
	if errors.Is(err, wal.ErrMissed) || errors.Is(err, errPageSize) || len(sums) == 0 && err == nil {
		return false, nil // the index will tell
	}
	if err != nil {
		return false, err
	}
	maps.DeleteFunc(sums, func(p wal.Pgno, _ wal.Checksum) bool { return p > size })
	p, err := d.notInFile(maps.All(sums))
	if errors.Is(err, errNotDatabase) {
		return false, nil
	}
	return err == nil && p == 0, err
}
