package live

import (
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// crowd keeps applications from taking this process's last descriptors: what
// they have open could then not be captured, and not be renamed or looked at
// either. The kernel gives out the lowest free descriptor, so the next one tells
// how many are in use.
//
// A database is opened as long as half of them are free, and what SQLite opens
// beside an open one, its log, wal-index and journals, as long as a quarter is:
// so what is open can go on.
type crowd struct {
	told atomic.Bool // that applications are refused
}

// admit returns nil, or what whoever opens a file of a role is told.
func (t *tree) admit(r role) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	next, err := unix.FcntlInt(uintptr(t.dir), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.Close(next)
	} else if err == syscall.EMFILE {
		next, err = int(limit.Cur), nil
	}
	if err != nil {
		return err
	}
	most := limit.Cur / 2
	if r != rolePlain {
		most = limit.Cur / 4 * 3
	}
	if uint64(next) < most {
		if uint64(next) < limit.Cur/4 {
			t.crowd.told.Store(false)
		}
		return nil
	}
	if !t.crowd.told.Swap(true) {
		t.control.logger.Error("too many files are open: applications are refused more of them, so that what they have open is captured; raise the limit of descriptors of this process",
			"limit", limit.Cur)
	}
	// Not EMFILE: it is not the application that has too many.
	return syscall.ENFILE
}
