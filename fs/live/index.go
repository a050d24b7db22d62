package live

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/walback/walback/wal"
)

// A log that is written past the daemon is looked at as another process would:
// what the wal-index says is committed, is. Without an index in use (EXCLUSIVE
// locking, or nobody is connected) the log speaks for itself.

// lookAt looks at the log. The caller holds d.mu.
func (d *database) lookAt(log io.ReaderAt) error {
	before := d.tracker.Position()
	if err := d.lookAtAll(log); err != nil || d.logs.Load() == 0 {
		return err
	}
	if after := d.tracker.Position(); !before.IsZero() && after.Salt1 != before.Salt1 {
		return d.logRestarted(log, after)
	}
	return nil
}

// logRestarted makes sure that the epoch before was wholly copied to the file:
// pages that have no frame in the log by now are as they were captured. See
// logEnded; nobody has told of this end. The caller holds d.mu.
func (d *database) logRestarted(log io.ReaderAt, now wal.Position) error {
	if d.phase != following {
		return nil
	}
	current := d.logPagesTo(now.Frames)
	old := slices.DeleteFunc(d.logPages(), func(p wal.Pgno) bool {
		_, found := slices.BinarySearch(current, p)
		return found
	})
	p, err := d.notInFile(old)
	if err != nil || p == 0 {
		return err
	}
	txn := d.last.ID
	if err := d.lookAtAll(log); err != nil || d.last.ID != txn {
		return err // written while it was read: the next restart will tell
	}
	return fmt.Errorf("page %d: %w", p, errUncopied)
}

// errUncopied tells that the database file has not what the log had.
var errUncopied = errors.New("the log ended, and the database file has not what the log had")

// lookAtAll takes over what is committed in the log.
func (d *database) lookAtAll(log io.ReaderAt) error {
	if d.indexes.Load() == 0 || d.unindexed {
		return d.tracker.Look(log, d.commit)
	}
	index, ok, err := d.readIndex()
	if err != nil {
		return err
	}
	if !ok { // it is being written, or recovered, at this moment
		d.unlooked = true
		d.lookSoon()
		return nil
	}
	if pos := d.tracker.Position(); pos.Salt1 == index.Salt1 && pos.Salt2 == index.Salt2 && pos.Frames == index.Frames && pos.Sum == index.Sum {
		return nil
	}
	return d.tracker.LookTo(log, index, d.commit)
}

// readIndex reads the header of the wal-index, and returns false when there is
// none at this moment. A passed index is the same memory as the application's.
func (d *database) readIndex() (wal.IndexHeader, bool, error) {
	f, err := os.Open(d.file() + indexSuffix)
	if isMissing(err) {
		return wal.IndexHeader{}, false, nil
	}
	if err != nil {
		return wal.IndexHeader{}, false, err
	}
	defer f.Close() // only read
	h, ok, err := readIndex(f)
	return h, ok, err
}

func readIndex(f io.ReaderAt) (wal.IndexHeader, bool, error) {
	const attempts = 4
	var b [wal.IndexHeaderSize]byte
	for range attempts {
		if _, err := f.ReadAt(b[:], 0); errors.Is(err, io.EOF) {
			return wal.IndexHeader{}, false, nil
		} else if err != nil {
			return wal.IndexHeader{}, false, fmt.Errorf("reading the wal-index: %w", err)
		}
		if h, ok := wal.ParseIndexHeader(b[:]); ok {
			return h, true, nil
		}
	}
	return wal.IndexHeader{}, false, nil
}

// synced is a commit whose fsync was seen, so that it has the time of that.
type synced struct {
	end  wal.Position
	time wal.Time
}

// timeOf returns when the commit that ends there was synced, or zero.
func (s synced) timeOf(end wal.Position) wal.Time {
	if end == s.end {
		return s.time
	}
	return 0
}

// syncing comes before an fsync of a log that is written past the daemon, by
// which SQLite makes a commit durable (synchronous=FULL). Nobody has learnt of
// the commit yet; it gets the time of this moment. The caller holds d.mu.
func (d *database) syncing() {
	if d.phase != following {
		return
	}
	d.look()
	if d.phase != following || d.log == nil {
		return
	}
	err := d.tracker.Look(d.log, func(c wal.Commit) error {
		d.synced = synced{c.End, d.now()}
		return errReached
	})
	if err != nil && !errors.Is(err, errReached) {
		d.logger().Debug("looking for what is being synced", "error", err)
	}
}
