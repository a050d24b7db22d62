package live

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/fs"
)

// dirStream is what go-fuse's stream over a directory's descriptor can do.
type dirStream interface {
	gofs.FileReaddirenter
	gofs.FileSeekdirer
	gofs.FileFsyncdirer
	gofs.FileReleasedirer
}

// dirHandle is an open directory.
type dirHandle struct {
	dirStream
	node *node
}

func (n *node) OpendirHandle(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if err := n.tree.admit(rolePlain); err != nil {
		return nil, 0, fs.Errno(err)
	}
	fd, _, err := n.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return nil, 0, fs.Errno(err)
	}
	stream, errno := gofs.NewLoopbackDirStreamFd(fd)
	if errno != 0 {
		return nil, 0, errno
	}
	return &dirHandle{dirStream: stream.(dirStream), node: n}, 0, 0
}

// Readdirent leaves out what is hidden at the root.
func (d *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	for {
		e, errno := d.dirStream.Readdirent(ctx)
		if e == nil || errno != 0 || !d.node.hides(e.Name) {
			return e, errno
		}
	}
}
