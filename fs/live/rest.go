package live

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// A database that nobody has open, and of which the store has every commit, is
// put to rest: nothing of it stays in memory but how its files were left, and no
// descriptor. It wakes when somebody opens it or changes it by name. Then, if its
// files are as they were left, what the sink keeps of them is what they hold, and
// they need not be read; otherwise they are compared with it as at a mount.
//
// How databases rest is remembered between mounts (see remember), so that a mount
// looks at the attributes of their files and at nothing else. That is as good as
// the promise that a file with the same inode, size and times has the same
// content:
//
//   - It says nothing about when it was remembered. A daemon that is killed, or a
//     machine that stops, leaves files with other times, or the content of then.
//   - The content was on disk before it was remembered, so that a power failure
//     cannot take it back and leave the times.
//   - A file that was written to a moment ago is not put to rest, because what is
//     written next could leave the same times.
//
// Who gets past that (by setting the clock, or a mapping that is written to
// without end) is found out when the file is verified.

const (
	// restAfter is how long nobody has a database open before it is put to rest.
	restAfter = time.Minute
	// settleTime is how old the times of a file are before they are relied upon;
	// some filesystems count in two seconds.
	settleTime = 2 * time.Second
)

// rest is how a database was left.
type rest struct {
	Path     string       `json:"path"` // of the main file, below the root
	stamps                // zero: somebody else has changed the files
	Position wal.Position `json:"position,omitzero"` // in the log, behind Txn
	Txn      wal.TxnInfo  `json:"txn"`               // what both together hold
	Verified time.Time    `json:"verified,omitzero"` // when the file was last read as a whole
}

// files is what the kernel says of the files of a database.
type files struct {
	main unix.Statx_t
	stamps
}

// stat returns what the kernel says of d's files, and false when d cannot rest
// because of that.
func (d *database) stat() (f files, ok bool) {
	var err error
	if f.main, err = statAt(unix.AT_FDCWD, d.file()); err != nil || f.main.Mode&unix.S_IFMT != unix.S_IFREG || f.main.Nlink != 1 {
		return f, false
	}
	f.stamps, err = stampsOf(&f.main, d.logFile())
	return f, err == nil
}

// are reports whether the files are as r says.
func (f files) are(r *rest) bool { return r != nil && f.stamps == r.stamps }

// trust takes the database at path as it was left before this mount, if it is.
func (s *set) trust(path string) bool {
	r := s.remembered[path]
	if r == nil {
		return false
	}
	d := &database{path: path, set: s}
	f, ok := d.stat()
	if !ok || !f.are(r) {
		return false
	}
	if hot, err := d.journalHot(); hot || err != nil {
		return false // taking it in tells better
	}
	s.mu.Lock()
	d = s.at(path)
	s.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase != idle {
		return true
	}
	if _, err := s.claimID(d, &f.main); err != nil {
		return false
	}
	d.phase, d.rested, d.last = resting, r, r.Txn
	return true
}

// wake takes a database in that is at rest. The caller holds d.mu.
func (d *database) wake() {
	d.phase = idle
	if !d.resume() {
		d.takeIn()
	}
}

// resume follows the database from what is kept of it, without reading it, and
// returns false when that is not known to be what the files hold.
func (d *database) resume() bool {
	r := d.rested
	if f, ok := d.stat(); !ok || !f.are(r) {
		d.logger().Info("the file is not as it was left when it was last in use; it is compared with what was captured")
		return false
	}
	// What goes wrong here taking it in will tell.
	if hot, err := d.journalHot(); hot || err != nil {
		return false
	}
	f, header, err := d.openFile()
	if err != nil {
		return false
	}
	f.Close() // only read
	if err := d.prepare(header); err != nil {
		return false
	}
	past, known := d.sink.Resume()
	n := len(past.States)
	if !known || past.Ended || past.Mark.Txn != r.Txn || past.Mark.PageSize != d.pageSize || n == 0 || past.States[n-1] != r.Txn {
		return false
	}
	sums, err := past.Sums(r.Txn.ID)
	if err != nil {
		d.logger().Warn("the sums of the last transaction cannot be read; the file is", "error", err)
		return false
	}
	d.tracker = wal.NewTracker(r.Position)
	d.follow(sums, r.Txn)
	d.verified = verified{r.Txn.ID, r.Verified}
	d.look()
	return true
}

// lull puts d to rest in a while: nobody uses it now. The caller holds s.mu.
func (s *set) lull(d *database) {
	s.lulled[d] = time.Now()
	s.sweepSoon()
}

// sweepSoon makes sure that databases are put to rest. The caller holds s.mu.
func (s *set) sweepSoon() {
	if s.sweeper != nil || s.isClosed() {
		return
	}
	s.sweeper = time.AfterFunc(s.restAfter, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sweeper = nil
		if !s.isClosed() {
			s.background.Go(s.sweep)
		}
	})
}

// sweep puts to rest what nobody has used for a while.
func (s *set) sweep() {
	s.mu.Lock()
	var due []*database
	for d, since := range s.lulled {
		if time.Since(since) >= s.restAfter {
			due = append(due, d)
		}
	}
	s.mu.Unlock()
	if s.putToRest(due, false) > 0 {
		s.rememberOrSay()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lulled) > 0 {
		s.sweepSoon()
	}
}

// putToRest puts to rest those of databases that can be, and returns how many.
// When the mount is closing, what is captured need not be in the store yet.
func (s *set) putToRest(databases []*database, closing bool) (n int) {
	found, unsynced := s.look(databases)
	if err := s.sync(unsynced); err != nil {
		s.logger.Warn("databases cannot be put to rest", "error", err)
		return 0
	}
	for d, f := range found {
		if !closing && s.isClosed() {
			break
		}
		if d.toRest(f, closing) {
			n++
		}
	}
	return n
}

// look returns how the files of databases are that may be put to rest, and which
// of them may not be on disk.
func (s *set) look(databases []*database) (found map[*database]files, unsynced []*database) {
	found = make(map[*database]files)
	for _, d := range databases {
		if s.inUseNow(d) {
			continue
		}
		f, ok := d.stat()
		if !ok {
			s.stir(d)
			continue
		}
		if !f.settled(s.settleTime) {
			continue
		}
		found[d] = f
		d.mu.Lock()
		if d.phase == following && !f.are(d.rested) {
			unsynced = append(unsynced, d)
		}
		d.mu.Unlock()
	}
	return found, unsynced
}

// stir makes nobody try to put d to rest until it is lulled again.
func (s *set) stir(d *database) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lulled, d)
}

// inUseNow reports whether somebody has a file of d open; d is lulled when that is
// over.
func (s *set) inUseNow(d *database) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.handles > 0 {
		delete(s.lulled, d)
	}
	return d.handles > 0
}

// manyFiles is how many files are more work to sync one by one than the whole
// filesystem is.
const manyFiles = 32

// sync makes sure that what databases have is on disk.
func (s *set) sync(databases []*database) error {
	if len(databases) > manyFiles {
		return syncFile(s.root, unix.Syncfs)
	}
	for _, d := range databases {
		for _, name := range []string{d.file(), d.logFile()} {
			if err := syncFile(name, unix.Fsync); err != nil && !isMissing(err) {
				return err
			}
		}
	}
	return nil
}

// syncFile has a file, or the filesystem that it is on, written to disk.
func syncFile(name string, sync func(fd int) error) error {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return errors.Join(sync(int(f.Fd())), f.Close())
}

// toRest puts d to rest if its files are still as they were found, and returns
// false if that has to wait, or cannot be.
func (d *database) toRest(found files, closing bool) bool {
	defer d.set.Names(false)()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase != following || d.image != nil {
		d.set.stir(d) // it will be followed again, or not
		return false
	}
	if d.set.inUseNow(d) {
		return false
	}
	f, ok := d.stat()
	if !ok || f.stamps != found.stamps {
		return false
	}
	if d.unlooked || d.armed || d.quieting || len(d.touched) > 0 || d.rescan {
		return false
	}
	// What somebody else has written to them is found out when d is opened next,
	// and they are guarded.
	vouched := d.asLeft(f.stamps)
	if vouched {
		d.look()
	}
	d.save()
	if d.phase != following {
		return false
	}
	if hot, err := d.journalHot(); hot || err != nil {
		return false
	}
	if !closing && !d.sink.Settled() {
		return false
	}
	return d.layDown(f, vouched && (d.log != nil) == f.hasLog() && !d.logGone())
}

// asLeft reports whether the files are as they were when nobody had them open any
// more. The caller holds d.mu.
func (d *database) asLeft(now stamps) bool {
	d.set.mu.Lock()
	left := d.left
	d.set.mu.Unlock()
	return left == now && !d.logGone()
}

// layDown puts d to rest unless somebody has opened it. If it is not vouched that
// the files f have what was captured, they are compared when it wakes. The caller
// holds d.mu.
func (d *database) layDown(f files, vouched bool) bool {
	s := d.set
	s.mu.Lock()
	delete(s.lulled, d)
	if d.handles > 0 || len(d.others) > 0 || d.id != idOf(&f.main) {
		s.mu.Unlock()
		return false
	}
	d.phase = resting // before s.mu is free: who opens it from now on wakes it
	s.mu.Unlock()
	r := &rest{Path: d.path, Txn: d.last}
	if vouched {
		r.stamps = f.stamps
	}
	if d.log != nil {
		r.Position = d.tracker.Position()
	}
	if d.verified.txn == d.last.ID {
		r.Verified = d.verified.at
	}
	d.rested, d.shipping = r, d.sink
	d.closeIndex()
	d.closeLog()
	if err := d.sink.Close(); err != nil {
		d.logger().Warn("letting go of a database that is not in use", "error", err)
	}
	d.sink, d.sums, d.tracker, d.newest, d.epochs = nil, nil, nil, nil, nil
	return true
}
