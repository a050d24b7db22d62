package live

import (
	"context"
	"errors"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/fs"
)

// Setattr is chmod, chown, truncate and utimens, on names and on open files
// alike. The size is set before the times, so that times asked for along with
// it stay.
func (n *node) Setattr(ctx context.Context, f gofs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	h := handleOf(f)
	for _, set := range []func() error{
		func() error { return n.chmod(in) },
		func() error { return n.chown(in) },
		func() error { return n.resize(ctx, h, in) },
		func() error { return n.utimens(in) },
	} {
		if err := set(); err != nil {
			return fs.Errno(err)
		}
	}
	st, err := n.stat(f)
	if err != nil {
		return fs.Errno(err)
	}
	n.sawMode(st.Mode)
	setAttr(&out.Attr, &st, n.StableAttr().Ino)
	out.SetTimeout(trust)
	return 0
}

func (n *node) chmod(in *fuse.SetAttrIn) error {
	mode, ok := in.GetMode()
	if !ok {
		return nil
	}
	return n.with(func(fd int) error { return unix.Chmod(procPath(fd), mode&07777) })
}

func (n *node) chown(in *fuse.SetAttrIn) error {
	uid, uok := in.GetUID()
	gid, gok := in.GetGID()
	if !uok && !gok {
		return nil
	}
	owner, group := -1, -1
	if uok {
		owner = int(uid)
	}
	if gok {
		group = int(gid)
	}
	return n.with(func(fd int) error { return unix.Fchownat(fd, "", owner, group, unix.AT_EMPTY_PATH) })
}

// resize sets the size: through h when the application has the file open, else
// by name.
func (n *node) resize(ctx context.Context, h *handle, in *fuse.SetAttrIn) error {
	size, ok := in.GetSize()
	if !ok {
		return nil
	}
	if err := n.dropSetID(ctx); err != nil {
		return err
	}
	if h != nil {
		return h.truncate(int64(size))
	}
	return n.truncate(int64(size))
}

// truncate is truncate(2).
func (n *node) truncate(size int64) error {
	defer n.tree.watcher.Names(false)()
	fd, _, p, err := n.openPath(unix.O_PATH)
	if err != nil {
		return err
	}
	cut := func() error { return unix.Truncate(procPath(fd), size) }
	if p == "" {
		return errors.Join(cut(), unix.Close(fd))
	}
	over := n.tree.watcher.Gate(p, opTruncate)
	err = cut()
	over(err == nil)
	return errors.Join(err, unix.Close(fd))
}

func (n *node) utimens(in *fuse.SetAttrIn) error {
	atime, aok := in.GetATime()
	mtime, mok := in.GetMTime()
	if !aok && !mok {
		return nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	for i, t := range []struct {
		at  time.Time
		set bool
	}{{atime, aok}, {mtime, mok}} {
		if !t.set {
			continue
		}
		ts, err := unix.TimeToTimespec(t.at)
		if err != nil {
			return err
		}
		times[i] = ts
	}
	return n.with(func(fd int) error { return unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH) })
}
