package live

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// A log that is written past the daemon is looked at as another process would:
// what the wal-index says is committed, is. Without an index in use (EXCLUSIVE
// locking, or nobody is connected) the log speaks for itself; so does one that is
// written through the daemon, which is told before the wal-index is.

// lookAt looks at the log. The caller holds d.mu.
func (d *database) lookAt(log io.ReaderAt) error {
	d.beginEpochs()
	if err := d.lookAtAll(log); err != nil || d.epochs == nil || d.phase != following {
		return err
	}
	pages := d.epochs.due(time.Now())
	p, err := d.uncopiedOf(pages)
	if err != nil || p == 0 {
		return err
	}
	txn := d.last.ID
	if err := d.lookAtAll(log); err != nil || d.last.ID != txn {
		d.epochs.postpone(pages) // written while it was read
		return err
	}
	return fmt.Errorf("page %d: %w", p, errUncopied)
}

// beginEpochs begins to track the epochs of a log that is written past the daemon.
// Before it can be restarted, there is a look.
func (d *database) beginEpochs() {
	if d.epochs == nil && d.phase == following && d.logs.Load() > 0 {
		at := d.tracker.Position()
		d.epochs = newEpochs(at, d.logPagesTo(at.Frames))
	}
}

// endEpochs compares what is still to be compared when nobody has the log open any
// more. The caller holds d.mu.
func (d *database) endEpochs() {
	if d.epochs == nil || d.logs.Load() > 0 {
		return
	}
	d.epochs.hurry()
	d.look()
	d.epochs = nil
}

// errUncopied tells that the database file has not what the log had.
var errUncopied = errors.New("the log ended, and the database file has not what the log had")

// lookAtAll takes over what is committed in the log.
func (d *database) lookAtAll(log io.ReaderAt) error {
	if d.logs.Load() == 0 || d.indexes.Load() == 0 || d.unindexed {
		return d.tracker.Look(log, d.commit)
	}
	if d.synced.pending() {
		defer d.synced.missed(d.now())
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
	if d.index != nil && isRemoved(d.index) {
		d.closeIndex()
	}
	if d.index == nil {
		f, err := os.Open(d.file() + indexSuffix)
		if isMissing(err) {
			return wal.IndexHeader{}, false, nil
		}
		if err != nil {
			return wal.IndexHeader{}, false, err
		}
		d.index = f
	}
	return readIndex(d.index)
}

// closeIndex closes the backing wal-index, which was only read.
func (d *database) closeIndex() {
	if d.index != nil {
		d.index.Close()
		d.index = nil
	}
}

// isRemoved reports whether an open file has no name any more.
func isRemoved(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) != nil || st.Nlink == 0
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
	time wal.Time // zero: there is none
}

// pending reports whether no look has seen the commit yet.
func (s *synced) pending() bool { return s.time != 0 }

// timeOf returns when the commit that ends there was synced, or zero. What comes in
// its place was committed later.
func (s *synced) timeOf(end wal.Position) (t wal.Time) {
	if end == s.end {
		t = s.time
	}
	*s = synced{}
	return t
}

// missed ends a look that began at a time. If the commit was not seen, it is not in
// the wal-index yet: nobody has learnt of it, and who asked for the state of the
// time at which the look began was told one without it.
func (s *synced) missed(began wal.Time) {
	if s.pending() {
		s.time = began + 1
	}
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
