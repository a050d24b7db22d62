package history

import (
	"fmt"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// door says who may look at the past. It is not known who might read a database
// when it was written, so behind the door everything can be read: the root of
// the tree belongs to the owner of the directory that it is mounted on, with the
// same rights but to write.
type door struct {
	mode  uint32
	owner fuse.Owner
}

// doorOf returns the door of a tree that is to be mounted on dir.
func doorOf(dir string) (door, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return door{}, fmt.Errorf("%s: %w", dir, err)
	}
	return door{mode: syscall.S_IFDIR | st.Mode&0o555, owner: fuse.Owner{Uid: st.Uid, Gid: st.Gid}}, nil
}

func (d door) setAttr(a *fuse.Attr) { a.Mode, a.Owner = d.mode, d.owner }
