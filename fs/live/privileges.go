package live

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Changing a file's content takes its set-user-id and set-group-id bits away,
// unless root does it (write(2), truncate(2)). The backing filesystem does not
// do that by itself, since it is root who writes there: so it is done here. File
// capabilities it does take away.

// attributesOnly, as an offset, makes the kernel forget attributes and no content
// (fs/fuse/inode.c, fuse_reverse_inval_inode). It takes no lock that a write in
// progress holds.
const attributesOnly = -1

// noticed makes an error of errno. ENOENT says that the kernel does not know the
// inode (any more), so that there is nothing to forget.
func noticed(errno syscall.Errno) error {
	if errno == 0 || errno == syscall.ENOENT {
		return nil
	}
	return errno
}

const setID = syscall.S_ISUID | syscall.S_ISGID

// sawMode remembers whether there is anything to take away, so that a write
// need not ask. Modes change through the mount only.
func (n *node) sawMode(mode uint16) { n.setID.Store(mode&setID != 0) }

// dropSetID takes the bits away before the caller of ctx changes the content.
func (n *node) dropSetID(ctx context.Context) error {
	if !n.setID.Load() {
		return nil
	}
	if caller, ok := fuse.FromContext(ctx); !ok || caller.Uid == 0 {
		return nil
	}
	return n.with(func(fd int) error {
		st, err := statAt(fd, "")
		if err != nil {
			return err
		}
		// Without the right to execute for the group, the second bit means something
		// else (mandatory locking, once) and stays.
		drop := uint32(syscall.S_ISUID)
		if st.Mode&syscall.S_IXGRP != 0 {
			drop |= syscall.S_ISGID
		}
		if err := unix.Chmod(procPath(fd), uint32(st.Mode)&07777&^drop); err != nil {
			return err
		}
		n.setID.Store(false)
		return noticed(n.NotifyContent(attributesOnly, 0))
	})
}
