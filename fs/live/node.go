package live

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/fs"
)

// node is a file, directory or symbolic link of the mount. It holds no
// descriptor: the tree costs nothing but memory while nothing is open.
type node struct {
	gofs.Inode
	tree *tree

	setID atomic.Bool // see privileges.go

	// mu guards what follows.
	mu      sync.Mutex
	handles []*handle // open ones
	// served counts those that go-fuse still knows: they are all passed, or none is.
	served int
	past   bool
	closed time.Time // when one was closed last
	kept   *keptFile // set once the file has lost its last name
}

var (
	_ gofs.NodeLookuper       = (*node)(nil)
	_ gofs.NodeGetattrer      = (*node)(nil)
	_ gofs.NodeStatxer        = (*node)(nil)
	_ gofs.NodeSetattrer      = (*node)(nil)
	_ gofs.NodeStatfser       = (*node)(nil)
	_ gofs.NodeReadlinker     = (*node)(nil)
	_ gofs.NodeOpendirHandler = (*node)(nil)
)

// path returns where n is below the root, and false when it has no name (any
// more). Of several hard links it is the one that was looked up last.
func (n *node) path() (string, bool) {
	if n.IsRoot() {
		return "", true
	}
	p := n.Path(nil)
	return p, p != ""
}

// open opens n in the backing directory.
func (n *node) open(flags int) (int, unix.Statx_t, error) {
	fd, st, _, err := n.openPath(flags)
	return fd, st, err
}

// openPath opens n in the backing directory by its path, which it returns too;
// that of a file without a name is empty. The path is computed, then used: a
// rename in between makes it another file's. So what was opened is compared with
// what n is, and the path looked at again if it differs.
func (n *node) openPath(flags int) (int, unix.Statx_t, string, error) {
	if n.IsRoot() {
		fd, err := openAt(n.tree.dir, ".", flags, 0)
		if err != nil {
			return -1, unix.Statx_t{}, "", err
		}
		fd, st, err := n.opened(fd)
		return fd, st, "", err
	}
	const attempts = 64
	for i := range attempts {
		p, ok := n.path()
		if !ok {
			fd, st, err := n.reopen(flags)
			return fd, st, "", err
		}
		fd, err := openAt(n.tree.dir, p, flags, 0)
		switch {
		case err == nil:
			fd, st, err := n.opened(fd)
			if !errors.Is(err, syscall.ESTALE) {
				return fd, st, p, err
			}
		case !moved(err):
			return -1, unix.Statx_t{}, "", err
		}
		// A rename is done and not known yet: a moment, unless the processor that
		// is to tell us is busy.
		if i < attempts/2 {
			runtime.Gosched()
		} else {
			time.Sleep(time.Duration(i) * 50 * time.Microsecond)
		}
	}
	// The kernel looks the name up again.
	return -1, unix.Statx_t{}, "", syscall.ESTALE
}

// opened checks that fd is n. It is closed otherwise, and the error is ESTALE.
func (n *node) opened(fd int) (int, unix.Statx_t, error) {
	st, err := statAt(fd, "")
	if err == nil && (n.IsRoot() || n.tree.identity(&st) == n.StableAttr()) {
		return fd, st, nil
	}
	if err == nil {
		err = syscall.ESTALE
	}
	return -1, st, errors.Join(err, unix.Close(fd))
}

// moved reports whether err may come of a path that is not n's any more.
func moved(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)
}

// with calls f with a descriptor of n that is good for calls through procPath
// or with AT_EMPTY_PATH: an open handle's, which works for a file without a
// name too, or a new one opened O_PATH. f must not keep it.
func (n *node) with(f func(fd int) error) error {
	if known, err := n.withKnown(f); known {
		return err
	}
	fd, _, err := n.open(unix.O_PATH)
	if err != nil {
		return err
	}
	return errors.Join(f(fd), unix.Close(fd))
}

// withKnown is with, if there is a descriptor already.
func (n *node) withKnown(f func(fd int) error) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case len(n.handles) > 0:
		return true, f(n.handles[0].fd)
	case n.kept != nil:
		return true, f(n.kept.fd)
	}
	return false, nil
}

// in calls f with an O_PATH descriptor of the directory n. f must not keep it.
func (n *node) in(f func(dir int) error) error {
	return n.inPath(func(dir int, _ string) error { return f(dir) })
}

// inPath is in, with the path that the directory has.
func (n *node) inPath(f func(dir int, path string) error) error {
	if n.IsRoot() {
		return f(n.tree.dir, "")
	}
	fd, _, p, err := n.openPath(unix.O_PATH | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	return errors.Join(f(fd, p), unix.Close(fd))
}

// add notes that h is open. It is to be passed unless others are open that are
// not, or are being released: go-fuse counts the release of a file that is not
// passed as one of a passed file if there is such a file by then.
func (n *node) add(h *handle, past bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.served == 0 {
		n.past = past
	}
	h.past = n.past
	n.served++
	n.handles = append(n.handles, h)
}

// forgotten notes that go-fuse does not know a handle of n any more.
func (n *node) forgotten() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.served--
}

func (n *node) remove(h *handle) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(n.handles, h); i >= 0 {
		n.handles = slices.Delete(n.handles, i, i+1)
	}
	n.closed = time.Now()
}

// inode returns the inode of a child with the attributes st, and tells the
// kernel those.
func (n *node) inode(ctx context.Context, st *unix.Statx_t, out *fuse.Attr) *gofs.Inode {
	id := n.tree.identity(st)
	setAttr(out, st, id.Ino)
	return n.NewInode(ctx, &node{tree: n.tree}, id)
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	if n.hides(name) {
		return n.tree.control.lookup(ctx, out)
	}
	var st unix.Statx_t
	err := n.in(func(dir int) (err error) {
		st, err = statAt(dir, name)
		return err
	})
	if err != nil {
		return nil, fs.Errno(err)
	}
	return n.inode(ctx, &st, &out.Attr), 0
}

func (n *node) Getattr(ctx context.Context, f gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	st, err := n.stat(f)
	if err != nil {
		return fs.Errno(err)
	}
	setAttr(&out.Attr, &st, n.StableAttr().Ino)
	return 0
}

func (n *node) Statx(ctx context.Context, f gofs.FileHandle, flags, mask uint32, out *fuse.StatxOut) syscall.Errno {
	st, err := n.stat(f)
	if err != nil {
		return fs.Errno(err)
	}
	out.FromStatx(&st)
	out.Ino = n.StableAttr().Ino
	return 0
}

// stat returns the attributes of n, through f if that is an open file.
func (n *node) stat(f gofs.FileHandle) (st unix.Statx_t, err error) {
	if h := handleOf(f); h != nil {
		return statAt(h.fd, "")
	}
	err = n.with(func(fd int) (err error) {
		st, err = statAt(fd, "")
		return err
	})
	return st, err
}

func (n *node) Statfs(ctx context.Context, out *fuse.StatfsOut) syscall.Errno {
	return fs.Errno(n.with(func(fd int) error {
		var st syscall.Statfs_t
		if err := syscall.Fstatfs(fd, &st); err != nil {
			return err
		}
		out.FromStatfsT(&st)
		return nil
	}))
}

func (n *node) Readlink(ctx context.Context) (target []byte, errno syscall.Errno) {
	err := n.with(func(fd int) error {
		buf := make([]byte, unix.PathMax)
		l, err := unix.Readlinkat(fd, "", buf)
		target = buf[:max(l, 0)]
		return err
	})
	return target, fs.Errno(err)
}

// setAttr translates st for the kernel.
func setAttr(out *fuse.Attr, st *unix.Statx_t, ino uint64) {
	*out = fuse.Attr{
		Ino:       ino,
		Size:      st.Size,
		Blocks:    st.Blocks,
		Atime:     uint64(st.Atime.Sec),
		Mtime:     uint64(st.Mtime.Sec),
		Ctime:     uint64(st.Ctime.Sec),
		Atimensec: st.Atime.Nsec,
		Mtimensec: st.Mtime.Nsec,
		Ctimensec: st.Ctime.Nsec,
		Mode:      uint32(st.Mode),
		Nlink:     st.Nlink,
		Owner:     fuse.Owner{Uid: st.Uid, Gid: st.Gid},
		Rdev:      uint32(unix.Mkdev(st.Rdev_major, st.Rdev_minor)),
		Blksize:   st.Blksize,
	}
}
