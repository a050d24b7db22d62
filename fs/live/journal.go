package live

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// Without a log a transaction writes pages to the database file itself, and
// commits by ending its rollback journal: by removing it (DELETE), cutting it
// to nothing (TRUNCATE) or writing zeros over its header (PERSIST). A rollback
// ends it in the same way, after the old pages have been written back. So the
// pages written since the last end are compared with what was captured before:
// what differs is the transaction.
//
// In the journal modes MEMORY and OFF there is no such event. What was written
// is taken at a quiet point: a while after the last write, when no connection
// has the database locked for writing.

// journalSuffix is what SQLite appends to a database's name for its journal.
const journalSuffix = "-journal"

// quietDelay is how long after a write without a journal the first attempt is
// made to take what was written.
const quietDelay = 20 * time.Millisecond

// touch notes that the application wrote b to the main file at off. The caller
// holds d.mu.
func (d *database) touch(off int64, b []byte) {
	if !d.tracked() {
		if d.phase == idle {
			d.quietSoon() // it may become a database
		}
		return
	}
	if len(b) == 0 {
		return
	}
	if d.tracker.Position().Frames > 0 {
		return // a checkpoint; logEnded makes sure of what it wrote
	}
	if d.touched == nil {
		d.touched = make(map[wal.Pgno]struct{})
	}
	first := off / int64(d.pageSize)
	last := (off + int64(len(b)) - 1) / int64(d.pageSize)
	for p := first; p <= last; p++ {
		d.touched[wal.Pgno(p+1)] = struct{}{}
	}
	d.quietSoon()
}

// writtenPast notes that the main file was written past the daemon. With a log
// that was a checkpoint. Without one, nobody knows which pages. The caller holds
// d.mu.
func (d *database) writtenPast() {
	if d.phase == idle {
		d.quietSoon()
		return
	}
	if !d.tracked() || d.inWALMode() && d.foreign.Load() == 0 {
		return
	}
	d.rescan = true
	d.quietSoon()
}

// inWALMode reports whether the file says that there is a log. It does not have
// to be taken in.
func (d *database) inWALMode() bool {
	f, header, err := d.openFile()
	if err != nil {
		return false
	}
	f.Close() // only read
	return header.WAL()
}

// resized notes that the size of the main file changed, or its content in a way
// that nobody told. The caller holds d.mu.
func (d *database) resized(op gateOp) {
	if d.phase == idle {
		d.quietSoon() // it may become a database
		return
	}
	if !d.tracked() || d.tracker.Position().Frames > 0 {
		return
	}
	if st, err := os.Stat(d.file()); err != nil || st.Size() == 0 {
		d.leave("the file was emptied")
		return
	}
	if op == opChange {
		d.rescan = true
	}
	d.quietSoon()
}

// tracked reports whether there is a state to compare with. The caller holds d.mu.
func (d *database) tracked() bool { return d.phase == following || d.phase == reading }

// leave stops following the database until it is taken in anew. The caller
// holds d.mu.
func (d *database) leave(why string) {
	d.logger().Info("not captured for now", "reason", why)
	d.dropImage()
	d.phase = idle
}

// journalChanged looks whether the journal has ended. The caller holds d.mu.
func (d *database) journalChanged() {
	hot, err := d.journalHot()
	if err != nil {
		d.fail(err)
		return
	}
	if hot {
		return
	}
	switch d.phase {
	case idle:
		d.takeIn()
	case broken:
		d.again()
	case resting:
		d.wake()
	case following, reading:
		d.commitFile()
	}
}

// journalHot reports whether there is a journal that SQLite would roll back, or
// whose transaction is under way. The caller holds d.mu.
func (d *database) journalHot() (bool, error) {
	hot, err := hotJournal(d.file() + journalSuffix)
	return hot || err == nil && d.foreignHot(), err
}

// hotJournal reports whether the file is a journal that has not ended: it has a
// header. (SQLite file format §3; the header's first eight bytes are written
// before any page of the database.)
func hotJournal(name string) (bool, error) {
	f, err := os.Open(name)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() // only read
	var b [wal.JournalHeaderSize]byte
	if _, err := f.ReadAt(b[:], 0); errors.Is(err, io.EOF) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	_, err = wal.ParseJournalHeader(b[:])
	return err == nil, nil
}

// commitFile makes a transaction of what the main file has that was not
// captured yet. Nobody must be in the middle of one. The caller holds d.mu.
func (d *database) commitFile() {
	f, header, err := d.openFile()
	if errors.Is(err, errNotDatabase) {
		d.leave("the file is no database any more")
		return
	}
	if err != nil {
		d.fail(err)
		return
	}
	defer f.Close()
	if header.PageSize != d.pageSize {
		d.logger().Info("the page size changed; a new generation begins")
		d.takeIn()
		return
	}
	size, err := databasePages(f, header)
	if err != nil {
		d.fail(err)
		return
	}
	if d.mains.Load() > 0 && !header.WAL() {
		d.rescan = true // who knows what was written
	}
	frames, err := d.changed(f, size)
	if err != nil {
		d.fail(err)
		return
	}
	d.touched, d.rescan = nil, false
	c := wal.Commit{Frames: frames, Size: size, PageSize: d.pageSize, End: d.tracker.Position()}
	if d.phase == reading {
		d.image.commit(c)
		select {
		case d.image.settled <- struct{}{}:
		default: // it has not been looked at yet
		}
		return
	}
	if len(frames) == 0 && size == d.sums.Size() {
		return // a rollback, or nothing was written
	}
	d.sums.Apply(c)
	d.append(&wal.Txn{
		TxnInfo: wal.TxnInfo{Size: size, Pages: wal.Pgno(len(frames)), Checksum: d.sums.Total()},
		Frames:  frames,
		Source:  source{file: f},
		End:     c.End,
	})
	d.save()
}

// changed returns the pages of the file that differ from what was captured, of
// those that were written.
func (d *database) changed(f *os.File, size wal.Pgno) ([]wal.Frame, error) {
	var frames []wal.Frame
	compare := func(p wal.Pgno, page []byte) {
		sum := wal.PageSum(p, page)
		if d.phase == reading || p > d.sums.Size() || d.sums.At(p) != sum {
			frames = append(frames, fileFrame(p, sum, d.pageSize))
		}
	}
	if d.rescan {
		for p, err := range filePageSeq(context.Background(), f, d.pageSize, size) {
			if err != nil {
				return nil, err
			}
			compare(p.Pgno, p.Data)
		}
		return frames, nil
	}
	page := make([]byte, d.pageSize)
	for _, p := range slices.Sorted(maps.Keys(d.touched)) {
		if p > size {
			break
		}
		if _, err := readZeroed(f, page, int64(p-1)*int64(d.pageSize)); err != nil {
			return nil, err
		}
		compare(p, page)
	}
	return frames, nil
}

// quietSoon makes sure that what is written without a journal is taken. The
// caller holds d.mu.
func (d *database) quietSoon() {
	d.touchedAt = time.Now()
	if d.quieting {
		return
	}
	d.quieting = true
	time.AfterFunc(quietDelay, func() { d.quiet(quietDelay) })
}

// quiet takes what was written without a journal, or tries again later.
func (d *database) quiet(delay time.Duration) {
	d.mu.Lock()
	d.quieting = false
	unsettled, path := d.unsettled(), d.set.mounted(d.path)
	d.mu.Unlock()
	if !unsettled {
		return
	}
	// The file is opened without d.mu: the kernel may hold the directory for an
	// operation that waits for it. os.Open would have the runtime poll the file.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		if !errors.Is(err, unix.ENOENT) {
			d.logger().Warn("cannot tell whether a transaction is under way", "error", err)
		}
		return
	}
	defer unix.Close(fd) // only asked
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.unsettled() {
		return
	}
	busy := time.Since(d.touchedAt) < quietDelay
	if !busy {
		busy, err = d.journalHot()
	}
	if err == nil && !busy {
		busy, err = writeLocked(fd)
	}
	switch {
	case err != nil:
		d.fail(err)
	case busy && !d.quieting:
		d.quieting = true
		delay = min(2*delay, maxLookDelay)
		time.AfterFunc(delay, func() { d.quiet(delay) })
	case busy:
	default:
		d.takeWritten()
	}
}

// takeWritten takes what the main file has, at a quiet point. The caller holds
// d.mu.
func (d *database) takeWritten() {
	if d.phase == idle {
		d.takeIn()
		return
	}
	d.commitFile()
}

// abandoned takes what was written without a journal and never will be committed
// in any other way: nobody uses the mount any more. A transaction that was left
// half done is SQLite's to roll back.
func (d *database) abandoned() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.unsettled() {
		return
	}
	hot, err := d.journalHot()
	switch {
	case err != nil:
		d.fail(err)
	case !hot:
		d.takeWritten()
	}
}

// unsettled reports whether the main file may have something that was not
// captured, though no journal or log will tell. The caller holds d.mu.
func (d *database) unsettled() bool {
	switch d.phase {
	case idle:
		return d.isDatabase()
	case broken, resting:
		return false
	}
	return d.tracker.Position().Frames == 0 && (len(d.touched) > 0 || d.rescan || d.sizeChanged())
}

// sizeChanged reports whether the file has another size than was captured.
func (d *database) sizeChanged() bool {
	st, err := os.Stat(d.file())
	return err == nil && d.phase == following && st.Size() != int64(d.sums.Size())*int64(d.pageSize)
}

// The bytes SQLite locks (SQLite's os.h): whoever writes holds at least the
// reserved one.
const (
	pendingByte  = 1 << 30
	reservedByte = pendingByte + 1
	lockedBytes  = 512
)

// writeLocked reports whether a connection holds a lock that a transaction
// which writes needs. fd is of the mount, where the application's locks are; it
// is a question to the kernel alone.
func writeLocked(fd int) (bool, error) {
	// A read lock conflicts with nothing but write locks.
	lock := unix.Flock_t{Type: unix.F_RDLCK, Start: pendingByte, Len: lockedBytes}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock); err != nil {
		return false, err
	}
	return lock.Type != unix.F_UNLCK, nil
}
