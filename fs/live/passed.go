package live

import (
	"errors"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/fs"
)

// passed is a handle whose reads, writes and maps the kernel passes on to the
// backing file, past the daemon (FUSE passthrough, Linux 6.9). Everything else
// still comes here. Where the kernel does not do it after all, it is a handle
// like any other.
//
// Within the kernel a file is either passed or not, through all its handles.
type passed struct{ *handle }

var _ gofs.FilePassthroughFder = passed{}

// PassthroughFd implements gofs.FilePassthroughFder.
func (p passed) PassthroughFd() (int, bool) { return p.fd, true }

// handleOf returns the handle that go-fuse has as f, nil if there is none.
func handleOf(f gofs.FileHandle) *handle {
	switch h := f.(type) {
	case *handle:
		return h
	case passed:
		return h.handle
	}
	return nil
}

// passing finds out whether the kernel passes I/O on to files of the backing
// filesystem, has it done from now on, and returns why not.
func (t *tree) passing(server *fs.Server) error {
	fd, err := openAt(t.dir, ".", unix.O_TMPFILE|unix.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(server.Passes(fd), unix.Close(fd))
	t.past = err == nil
	return err
}

// passes reports whether files can be passed. Whoever opens one at once waits until
// that is known: of the files of one database all are passed, or none.
func (t *tree) passes() bool {
	<-t.decided
	return t.past
}

// stackDepth returns how many filesystems may lie below a passed file. More than
// one takes the mount one of the two levels that others could lie on it.
func (t *tree) stackDepth() int {
	var st unix.Statfs_t
	if err := unix.Fstatfs(t.dir, &st); err == nil && (st.Type == unix.OVERLAYFS_SUPER_MAGIC || st.Type == unix.FUSE_SUPER_MAGIC) {
		return 2
	}
	return 1
}
