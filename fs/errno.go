package fs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// maxErrno is the largest error number the kernel takes as an answer to a FUSE
// request; it refuses the answer otherwise (fs/fuse/dev.c, fuse_dev_do_write).
const maxErrno = 511

// Errno decides what an application sees of err. It is the only such place. A
// system call's own number is passed on; other errors are told by identity;
// whatever is left is an input/output error. Errno(nil) is 0.
func Errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return answerable(errno)
	}
	for _, c := range [...]struct {
		identity error
		errno    syscall.Errno
	}{
		{fs.ErrNotExist, syscall.ENOENT},
		{fs.ErrExist, syscall.EEXIST},
		{fs.ErrPermission, syscall.EACCES},
		{fs.ErrInvalid, syscall.EINVAL},
		{fs.ErrClosed, syscall.EBADF},
		{errors.ErrUnsupported, syscall.EOPNOTSUPP},
		{context.Canceled, syscall.EINTR},
		{context.DeadlineExceeded, syscall.ETIMEDOUT},
		{os.ErrDeadlineExceeded, syscall.ETIMEDOUT},
	} {
		if errors.Is(err, c.identity) {
			return c.errno
		}
	}
	return syscall.EIO
}

// answerable replaces numbers that the kernel would not pass on. ENOSYS makes
// it never ask for the operation again on the whole mount, which no single
// failure may decide.
func answerable(errno syscall.Errno) syscall.Errno {
	switch {
	case errno == syscall.ENOSYS:
		return syscall.EOPNOTSUPP
	case errno == 0 || errno > maxErrno:
		return syscall.EIO
	}
	return errno
}
