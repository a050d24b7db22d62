package live

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/fs"
)

var (
	_ gofs.NodeGetxattrer    = (*node)(nil)
	_ gofs.NodeSetxattrer    = (*node)(nil)
	_ gofs.NodeRemovexattrer = (*node)(nil)
	_ gofs.NodeListxattrer   = (*node)(nil)
)

func (n *node) Getxattr(ctx context.Context, attr string, dest []byte) (size uint32, errno syscall.Errno) {
	err := n.with(func(fd int) error {
		l, err := unix.Getxattr(procPath(fd), attr, dest)
		size = uint32(max(l, 0))
		return err
	})
	return size, fs.Errno(err)
}

func (n *node) Listxattr(ctx context.Context, dest []byte) (size uint32, errno syscall.Errno) {
	err := n.with(func(fd int) error {
		l, err := unix.Listxattr(procPath(fd), dest)
		size = uint32(max(l, 0))
		return err
	})
	return size, fs.Errno(err)
}

func (n *node) Setxattr(ctx context.Context, attr string, data []byte, flags uint32) syscall.Errno {
	return fs.Errno(n.with(func(fd int) error {
		return unix.Setxattr(procPath(fd), attr, data, int(flags))
	}))
}

func (n *node) Removexattr(ctx context.Context, attr string) syscall.Errno {
	return fs.Errno(n.with(func(fd int) error {
		return unix.Removexattr(procPath(fd), attr)
	}))
}
