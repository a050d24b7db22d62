package live

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A process that has a log open for writing by another way than this mount sees
// none of the locks in it, and both together would damage the database. It may be
// one that had the database open before the mount; or one that has it open through
// a mount whose daemon was killed: what the kernel passes past a daemon goes on
// without it. So the log is not opened for anybody here as long as that lasts.

const (
	// strangerPatience is how long is waited for a stranger to go.
	strangerPatience = 100 * time.Millisecond
	// lingering is how long it may take the kernel to let go of a file that was
	// open here: it tells of the close, and a process that is at its end closes the
	// backing file behind that, as soon as there is a processor for it.
	lingering = 3 * time.Second
)

// refuseSecondWriter returns EBUSY if n is a log that nobody has open here, and
// somebody else has open for writing.
func (n *node) refuseSecondWriter() error {
	p, _ := n.path()
	if roleOf(p) != roleLog {
		return nil
	}
	until := n.lastClosed().Add(lingering)
	if soon := time.Now().Add(strangerPatience); until.Before(soon) {
		until = soon
	}
	for ; ; time.Sleep(time.Millisecond) {
		if n.isOpen() { // by somebody who has waited, too
			return nil
		}
		written, err := n.isWrittenElsewhere()
		if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EACCES) || err == nil && !written {
			return nil // opening it tells better
		}
		if err != nil {
			n.tree.control.logger.Warn("cannot tell whether somebody else writes to the log", "path", p, "error", err)
			return nil
		}
		if time.Now().After(until) {
			n.tree.control.logger.Error("the database is refused to applications: somebody writes to its log by another way than this mount, and both together would damage it. End the processes that have had it open since before the mount", "path", p)
			return syscall.EBUSY
		}
	}
}

// lastClosed returns when a handle of n was closed last, zero if never.
func (n *node) lastClosed() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

func (n *node) isOpen() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.handles) > 0
}

// isWrittenElsewhere reports whether n, which is not open for writing here, is
// open for writing: then the kernel gives no read lease.
func (n *node) isWrittenElsewhere() (written bool, err error) {
	fd, _, err := n.open(unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return true, nil
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EACCES):
		return false, nil // no leases on this filesystem, or of other users' files
	case err != nil:
		return false, err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	return false, err
}
