package live

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/fs"
)

// handle is a file as one application has it open. The kernel sends nothing
// for it after its release.
type handle struct {
	node  *node
	fd    int
	past  bool  // it is passed, see passed
	watch watch // nil: nobody cares
}

// A handle must not be or embed a gofs.LoopbackFile: that one offers its
// descriptor for passthrough, and Write would never be called.
var (
	_ gofs.FileReader    = (*handle)(nil)
	_ gofs.FileWriter    = (*handle)(nil)
	_ gofs.FileFlusher   = (*handle)(nil)
	_ gofs.FileFsyncer   = (*handle)(nil)
	_ gofs.FileAllocater = (*handle)(nil)
	_ gofs.FileLseeker   = (*handle)(nil)
	_ gofs.FileReleaser  = (*handle)(nil)

	_ gofs.NodeOpener         = (*node)(nil)
	_ gofs.NodeCopyFileRanger = (*node)(nil)
)

func (n *node) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	h, answer, changed, err := n.openHandle(flags)
	if err != nil {
		return nil, 0, fs.Errno(err)
	}
	if changed {
		n.forgetContent()
	}
	return h, answer, 0
}

func (n *node) openHandle(flags uint32) (h gofs.FileHandle, answer uint32, changed bool, err error) {
	name, _ := n.path()
	if err := n.tree.admit(roleOf(name)); err != nil {
		return nil, 0, false, err
	}
	if err := n.refuseSecondWriter(); err != nil {
		return nil, 0, false, err
	}
	defer n.tree.watcher.Names(false)()
	fd, st, p, err := n.openTruncating(flags)
	if err != nil {
		return nil, 0, false, err
	}
	h, answer, changed = newHandle(n, fd, &st, p, flags)
	return h, answer, changed, nil
}

// forgetContent makes the kernel forget what it knows of n, a main file, and of
// the files beside it. Nobody has them open. Names must not be held: the kernel
// may have the directory locked for somebody who waits for them.
func (n *node) forgetContent() {
	n.NotifyContent(0, 0) // it fails when nothing is known
	name, parent := n.Parent()
	if parent == nil {
		return
	}
	for _, derived := range derivedNames {
		beside := name + derived.suffix
		if child := parent.GetChild(beside); child != nil {
			child.NotifyContent(0, 0)
		}
		parent.NotifyEntry(beside)
	}
}

// openTruncating opens n and returns with which path. The kernel truncates with a
// SETATTR of its own, so O_TRUNC only comes when it has been asked to send it.
func (n *node) openTruncating(flags uint32) (fd int, st unix.Statx_t, p string, err error) {
	truncate := int(flags & syscall.O_TRUNC)
	if truncate != 0 {
		p, _ := n.path()
		over := n.tree.watcher.Gate(p, opTruncate)
		defer func() { over(err == nil) }()
	}
	return n.openPath(backingFlags(flags) | truncate)
}

// backingFlags returns with which flags the backing file is opened. The kernel
// does what the others are for: it sends where to append, and passes by its own
// cache for O_DIRECT.
func backingFlags(flags uint32) int {
	return int(flags) & (syscall.O_ACCMODE | syscall.O_SYNC | syscall.O_DSYNC | syscall.O_NOATIME)
}

// newHandle takes over fd, opened as path (empty: without a name) with the
// attributes st, and decides how the kernel uses it.
func newHandle(n *node, fd int, st *unix.Statx_t, path string, flags uint32) (f gofs.FileHandle, answer uint32, changed bool) {
	h := &handle{node: n, fd: fd}
	n.add(h, path != "" && n.tree.passes() && n.tree.watcher.Passable(path, fd, int(flags)))
	if path != "" {
		h.watch, changed = n.tree.watcher.Opened(path, fd, st, int(flags), h.past)
	}
	n.sawMode(st.Mode)
	if roleOf(path) != rolePlain || flags&syscall.O_ACCMODE == syscall.O_RDONLY {
		// SQLite makes its files durable by fsync; a close has nothing to report.
		answer |= fuse.FOPEN_NOFLUSH
	}
	if h.past {
		return passed{h}, answer, changed
	}
	// What the kernel has cached stays: files change through the mount only.
	return h, answer | fuse.FOPEN_KEEP_CACHE, changed
}

func (h *handle) Read(ctx context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultFd(uintptr(h.fd), off, len(buf)), 0
}

func (h *handle) Write(ctx context.Context, p []byte, off int64) (uint32, syscall.Errno) {
	if err := h.node.dropSetID(ctx); err != nil {
		return 0, fs.Errno(err)
	}
	if h.watch == nil || h.watch.Role() == roleIndex {
		return h.pwrite(p, off)
	}
	op, gated := writeOp(h.watch.Role(), off)
	told := h.watch.Written
	if gated {
		passage := h.watch.Gate(op)
		defer passage.Done()
		told = passage.Written
	}
	n, errno := h.pwrite(p, off)
	if n > 0 {
		told(off, p[:n])
	}
	return n, errno
}

// pwrite writes p at off. It may write less: the kernel tells the application.
func (h *handle) pwrite(p []byte, off int64) (uint32, syscall.Errno) {
	n, err := unix.Pwrite(h.fd, p, off)
	for err == syscall.ENOSPC && h.node.tree.makesRoom() {
		n, err = unix.Pwrite(h.fd, p, off)
	}
	if err != nil {
		return 0, fs.Errno(err)
	}
	return uint32(n), 0
}

func (h *handle) truncate(size int64) error {
	if h.watch != nil {
		defer h.watch.Gate(opTruncate).Done()
	}
	return unix.Ftruncate(h.fd, size)
}

// Flush is close(2) of one of the descriptors the application has of the
// handle: backing filesystems that report late (NFS, quotas) do so now.
func (h *handle) Flush(ctx context.Context) syscall.Errno {
	fd, err := unix.FcntlInt(uintptr(h.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fs.Errno(err)
	}
	return fs.Errno(unix.Close(fd))
}

func (h *handle) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	if h.past && h.watch != nil {
		h.watch.Syncing()
	}
	const dataOnly = 1 // FUSE_FSYNC_FDATASYNC
	if flags&dataOnly != 0 {
		return fs.Errno(unix.Fdatasync(h.fd))
	}
	return fs.Errno(unix.Fsync(h.fd))
}

func (h *handle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	if err := h.node.dropSetID(ctx); err != nil {
		return fs.Errno(err)
	}
	if h.watch != nil {
		defer h.watch.Gate(opChange).Done()
	}
	return fs.Errno(unix.Fallocate(h.fd, mode, int64(off), int64(size)))
}

// Lseek answers SEEK_DATA and SEEK_HOLE; the kernel keeps the position itself.
func (h *handle) Lseek(ctx context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	at, err := unix.Seek(h.fd, int64(off), int(whence))
	if err != nil {
		return 0, fs.Errno(err)
	}
	return uint64(at), 0
}

func (h *handle) Release(ctx context.Context) syscall.Errno {
	h.node.remove(h)
	h.node.tree.releasing.Store(ctx.Done(), h.node)
	err := unix.Close(h.fd)
	if h.watch != nil {
		h.watch.Released()
	}
	return fs.Errno(err)
}

// CopyFileRange copies within the backing filesystem. Into a log or journal it
// does not: the kernel then reads and writes, and the watcher sees what.
func (n *node) CopyFileRange(ctx context.Context, fhIn gofs.FileHandle, offIn uint64, out *gofs.Inode, fhOut gofs.FileHandle, offOut uint64, size uint64, flags uint64) (uint32, syscall.Errno) {
	from, to := handleOf(fhIn), handleOf(fhOut)
	if from == nil || to == nil || to.watch != nil && to.watch.Role() != rolePlain {
		return 0, syscall.EOPNOTSUPP
	}
	if err := to.node.dropSetID(ctx); err != nil {
		return 0, fs.Errno(err)
	}
	if to.watch != nil {
		defer to.watch.Gate(opChange).Done()
	}
	// The answer has 32 bits.
	const most = 1 << 30
	in, at := int64(offIn), int64(offOut)
	copied, err := unix.CopyFileRange(from.fd, &in, to.fd, &at, int(min(size, most)), int(flags))
	if err != nil {
		return 0, fs.Errno(err)
	}
	return uint32(copied), 0
}
