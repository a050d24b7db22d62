package live

import (
	"context"
	"errors"
	"path"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/fs"
)

var (
	_ gofs.NodeCreater   = (*node)(nil)
	_ gofs.NodeTmpfiler  = (*node)(nil)
	_ gofs.NodeMknoder   = (*node)(nil)
	_ gofs.NodeMkdirer   = (*node)(nil)
	_ gofs.NodeSymlinker = (*node)(nil)
	_ gofs.NodeLinker    = (*node)(nil)
	_ gofs.NodeUnlinker  = (*node)(nil)
	_ gofs.NodeRmdirer   = (*node)(nil)
	_ gofs.NodeRenamer   = (*node)(nil)
)

// Create creates a file that the kernel knows not to exist. If it does, the
// kernel is told to look again and then opens it, checking its mode: it must
// never be opened from here, unchecked.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	if n.hides(name) {
		return nil, nil, 0, syscall.EPERM
	}
	if err := n.tree.admit(roleOf(name)); err != nil {
		return nil, nil, 0, fs.Errno(err)
	}
	defer n.tree.watcher.Names(false)()
	fd, p := -1, ""
	var st unix.Statx_t
	err := n.inPath(func(dir int, at string) (err error) {
		p = path.Join(at, name)
		fd, err = openAt(dir, name, backingFlags(flags)|unix.O_CREAT|unix.O_EXCL, mode)
		if err != nil {
			return err
		}
		st, err = n.tree.adopt(ctx, dir, fd, mode)
		return err
	})
	if errors.Is(err, syscall.EEXIST) && flags&syscall.O_EXCL == 0 {
		err = syscall.ESTALE
	}
	if err != nil {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
		return nil, nil, 0, fs.Errno(err)
	}
	inode := n.inode(ctx, &st, &out.Attr)
	h, answer, _ := newHandle(inode.Operations().(*node), fd, &st, p, flags)
	return inode, h, answer, 0
}

// Tmpfile is open(2) with O_TMPFILE: a file without a name, so nobody's
// database unless it is linked.
func (n *node) Tmpfile(ctx context.Context, flags, mode uint32, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	if err := n.tree.admit(rolePlain); err != nil {
		return nil, nil, 0, fs.Errno(err)
	}
	fd := -1
	var st unix.Statx_t
	err := n.in(func(dir int) (err error) {
		// O_EXCL is kept: it says that the file may never be linked.
		fd, err = openAt(dir, ".", backingFlags(flags)|int(flags&unix.O_EXCL)|unix.O_TMPFILE, mode)
		if err != nil {
			return err
		}
		st, err = n.tree.adopt(ctx, dir, fd, mode)
		return err
	})
	if err != nil {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
		return nil, nil, 0, fs.Errno(err)
	}
	inode := n.inode(ctx, &st, &out.Attr)
	h, answer, _ := newHandle(inode.Operations().(*node), fd, &st, "", flags)
	return inode, h, answer, 0
}

func (n *node) Mknod(ctx context.Context, name string, mode, rdev uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return n.make(ctx, name, mode, out, func(dir int) error {
		return unix.Mknodat(dir, name, mode, int(rdev))
	})
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return n.make(ctx, name, mode|syscall.S_IFDIR, out, func(dir int) error {
		return unix.Mkdirat(dir, name, mode&07777)
	})
}

func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return n.make(ctx, name, syscall.S_IFLNK|0777, out, func(dir int) error {
		return unix.Symlinkat(target, dir, name)
	})
}

// make creates something else than an open file and gives it to the caller.
func (n *node) make(ctx context.Context, name string, mode uint32, out *fuse.EntryOut, create func(dir int) error) (*gofs.Inode, syscall.Errno) {
	if n.hides(name) {
		return nil, syscall.EPERM
	}
	var st unix.Statx_t
	err := n.in(func(dir int) error {
		if err := create(dir); err != nil {
			return err
		}
		fd, err := openAt(dir, name, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		st, err = n.tree.adopt(ctx, dir, fd, mode)
		return errors.Join(err, unix.Close(fd))
	})
	if err != nil {
		return nil, fs.Errno(err)
	}
	return n.inode(ctx, &st, &out.Attr), 0
}

// Link gives a file another name. A file without any (O_TMPFILE) is linked
// through its open handle.
func (n *node) Link(ctx context.Context, target gofs.InodeEmbedder, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	file, ok := target.(*node)
	if !ok || n.hides(name) {
		return nil, syscall.EPERM
	}
	defer n.tree.watcher.Names(true)()
	var st unix.Statx_t
	err := n.inPath(func(dir int, at string) (err error) {
		over := n.tree.watcher.Gate(path.Join(at, name), opLink)
		defer func() { over(err == nil) }()
		return file.with(func(fd int) (err error) {
			if err := unix.Linkat(unix.AT_FDCWD, procPath(fd), dir, name, unix.AT_SYMLINK_FOLLOW); err != nil {
				return err
			}
			st, err = statAt(fd, "")
			return err
		})
	})
	if err != nil {
		return nil, fs.Errno(err)
	}
	return n.inode(ctx, &st, &out.Attr), 0
}

func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	if n.hides(name) {
		return syscall.EPERM
	}
	last := n.losing(name)
	err := n.unlink(name)
	return fs.Errno(errors.Join(err, last.lost()))
}

func (n *node) unlink(name string) error {
	defer n.tree.watcher.Names(false)()
	return n.inPath(func(dir int, at string) (err error) {
		over := n.tree.watcher.Gate(path.Join(at, name), opUnlink)
		defer func() { over(err == nil) }()
		return unix.Unlinkat(dir, name, 0)
	})
}

func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	if n.hides(name) {
		return syscall.EPERM
	}
	last := n.losing(name)
	err := n.in(func(dir int) error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
	return fs.Errno(errors.Join(err, last.lost()))
}

// Rename moves a name, with RENAME_NOREPLACE only where none is, and with
// RENAME_EXCHANGE in both directions.
func (n *node) Rename(ctx context.Context, name string, newParent gofs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*node)
	if !ok || n.hides(name) || to.hides(newName) {
		return syscall.EPERM
	}
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return syscall.EINVAL
	}
	last := to.losing(newName)
	err := n.rename(name, to, newName, uint(flags))
	return fs.Errno(errors.Join(err, last.lost()))
}

func (n *node) rename(name string, to *node, newName string, flags uint) error {
	defer n.tree.watcher.Names(true)()
	return n.inPath(func(dir int, from string) error {
		return to.inPath(func(newDir int, at string) (err error) {
			over := n.tree.watcher.Rename(path.Join(from, name), path.Join(at, newName), flags&unix.RENAME_EXCHANGE != 0)
			defer func() { over(err == nil) }()
			return unix.Renameat2(dir, name, newDir, newName, flags)
		})
	})
}

// adopt gives a file just created in dir to the caller, as if the caller had
// created it, and returns its attributes. The kernel has applied the caller's
// umask to mode; this process's must not be.
func (t *tree) adopt(ctx context.Context, dir, fd int, mode uint32) (unix.Statx_t, error) {
	parent, err := statAt(dir, "")
	if err != nil {
		return parent, err
	}
	group := -1 // as the directory's, when that says so
	inherits := parent.Mode&syscall.S_ISGID != 0
	if caller, ok := fuse.FromContext(ctx); ok && t.asRoot {
		if !inherits {
			group = int(caller.Gid)
		}
		if err := unix.Fchownat(fd, "", int(caller.Uid), group, unix.AT_EMPTY_PATH); err != nil {
			return parent, err
		}
	}
	st, err := statAt(fd, "")
	if err != nil || mode&syscall.S_IFMT == syscall.S_IFLNK {
		return st, err
	}
	if mode&syscall.S_IFMT == syscall.S_IFDIR && inherits {
		mode |= syscall.S_ISGID
	}
	// Lost are the bits of our umask, and those that a change of owner takes. What
	// a default ACL of the directory has taken is to stay away.
	const special = syscall.S_ISUID | syscall.S_ISGID | syscall.S_ISVTX
	lost := mode & (t.umask | special) &^ uint32(st.Mode)
	if lost&^special != 0 {
		if _, err := unix.Getxattr(procPath(dir), "system.posix_acl_default", nil); err == nil {
			lost &= special
		}
	}
	if lost == 0 {
		return st, nil
	}
	if err := unix.Chmod(procPath(fd), (uint32(st.Mode)|lost)&07777); err != nil {
		return st, err
	}
	return statAt(fd, "")
}
