package live

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The locks of applications in the mount are known to the mount alone. Whoever
// reaches the backing file by another path (the backing directory, a bind mount, a
// descriptor from before the mount) would not see them, and damage the database.
// So while a database is open in the mount, the daemon holds the bytes that SQLite
// locks, of the backing file: SQLite then says "database is locked" to everybody
// else. Nobody is guarded against who does not ask for locks, nor is a database
// that nobody has open; when that is opened, and its file or log is not as it was
// left, it is compared with what was captured.

// guard holds the lock bytes of one backing file.
type guard struct {
	mu    sync.Mutex
	file  *os.File // nil as long as there is none
	held  bool
	over  bool          // nobody has the file open any more
	delay time.Duration // until it is tried again; zero: nobody else had it locked
}

// Bounds of the time after which it is tried again to lock what somebody else
// has locked.
const (
	minGuardDelay = 5 * time.Millisecond
	maxGuardDelay = time.Second
)

// guard keeps others from the backing file of f, a main file, which fd is a
// descriptor of. Failing is no concern of the application.
func (s *set) guard(f *openFile, fd int) {
	g := &f.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.file != nil || g.over {
		return
	}
	file, err := os.OpenFile(procPath(fd), os.O_RDWR|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS) {
		file, err = os.OpenFile(procPath(fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		s.logger.Warn("the database is not guarded against who reaches its file by another path", "path", f.name(), "error", err)
		return
	}
	g.file = file
	s.tryGuard(f)
}

// tryGuard locks, or tries again later. The caller holds g.mu.
func (s *set) tryGuard(f *openFile) {
	g := &f.guard
	fd := int(g.file.Fd())
	kind := int16(unix.F_WRLCK)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil && flags&unix.O_ACCMODE == unix.O_RDONLY {
		kind = unix.F_RDLCK // keeps writers away
	}
	lock := unix.Flock_t{Type: kind, Start: pendingByte, Len: lockedBytes}
	err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lock)
	switch {
	case err == nil:
		g.held = true
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		if g.delay == 0 {
			s.logger.Error("somebody uses the database by another path than the mount; both together can damage it: it must be closed there",
				"path", f.name(), "process", holder(fd))
		}
		g.delay = min(max(2*g.delay, minGuardDelay), maxGuardDelay)
		time.AfterFunc(g.delay, func() { s.guardAgain(f) })
	default:
		s.noLocks.Do(func() {
			s.logger.Warn("the filesystem has no locks: databases are not guarded against who reaches their files by another path", "error", err)
		})
	}
}

// guardAgain tries once more to lock what somebody else had locked. What that
// one has done meanwhile is found out.
func (s *set) guardAgain(f *openFile) {
	g := &f.guard
	g.mu.Lock()
	if !g.over {
		s.tryGuard(f)
	}
	held := g.held
	g.mu.Unlock()
	if !held {
		return
	}
	s.logger.Info("nobody uses the database by another path any more", "path", f.name())
	p := f.lock()
	defer p.unlock()
	if p.d != nil && p.role == rolePlain {
		p.d.suspect()
	}
}

// release ends the guard of the main file that the log belongs to, and returns how
// both are left; nothing if that is not known, or somebody else may have changed
// them without being noticed.
func (g *guard) release(log string) (left stamps, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	if g.file == nil {
		return left, nil
	}
	if g.held || g.delay == 0 {
		left, err = stampsAt(int(g.file.Fd()), log)
	}
	err = errors.Join(err, g.file.Close())
	g.file = nil
	return left, err
}

// holder names the process that has a lock byte of fd locked, if the kernel tells.
func holder(fd int) string {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: pendingByte, Len: lockedBytes}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK || lock.Pid <= 0 {
		return "unknown"
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", lock.Pid))
	if err != nil {
		return fmt.Sprint(lock.Pid)
	}
	return fmt.Sprintf("%d (%s)", lock.Pid, strings.TrimSpace(string(name)))
}

// inUse guards the main file that f is, which has just been opened as fd. If
// nobody else has it open, and it or its log is not as it was left, somebody has
// written to it behind the mount's back: that is found out, and true is returned.
func (s *set) inUse(f *openFile, fd int, first bool) (changed bool) {
	s.mu.Lock()
	d := s.owners[f.id]
	s.mu.Unlock()
	if d == nil {
		return false
	}
	s.guard(f, fd)
	if !first {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now, err := stampsAt(fd, d.logFile())
	same := err == nil && d.asLeft(now)
	switch {
	case d.phase == resting:
		d.wake() // which compares it if need be
	case same:
		d.look() // which begins again if capture has failed
	case d.phase != idle:
		d.logger().Info("the file is not as it was left when it was last in use; it is compared with what was captured")
		d.suspect()
	}
	return !same
}

// leave ends the guard of f, which nobody has open any more. The caller holds
// s.mu.
func (s *set) leave(f *openFile) {
	d := s.owners[f.id]
	log := ""
	if d != nil {
		log = d.logFile()
	}
	left, err := f.guard.release(log)
	if err != nil {
		s.logger.Warn("ending the guard of a database", "path", f.name(), "error", err)
	}
	if d != nil {
		d.left = left
	}
}
