package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

func TestErrno(t *testing.T) {
	_, notDir := os.Stat("/etc/passwd/below")
	for _, c := range []struct {
		name string
		err  error
		want syscall.Errno
	}{
		{"nil", nil, 0},
		{"system call", notDir, syscall.ENOTDIR},
		{"joined system call", errors.Join(errors.New("copying"), os.ErrProcessDone, syscall.EDQUOT), syscall.EDQUOT},
		{"system call before identity", fmt.Errorf("%w: %w", fs.ErrNotExist, syscall.ESTALE), syscall.ESTALE},
		{"not exist", fmt.Errorf("object: %w", fs.ErrNotExist), syscall.ENOENT},
		{"exist", &fs.PathError{Op: "put", Path: "k", Err: fs.ErrExist}, syscall.EEXIST},
		{"permission", fs.ErrPermission, syscall.EACCES},
		{"invalid", fs.ErrInvalid, syscall.EINVAL},
		{"closed", os.ErrClosed, syscall.EBADF},
		{"unsupported", errors.ErrUnsupported, syscall.EOPNOTSUPP},
		{"canceled", context.Canceled, syscall.EINTR},
		{"context deadline", context.DeadlineExceeded, syscall.ETIMEDOUT},
		{"I/O deadline", os.ErrDeadlineExceeded, syscall.ETIMEDOUT},
		{"end of file", io.ErrUnexpectedEOF, syscall.EIO},
		{"any other", errors.New("damaged"), syscall.EIO},
		{"never again", syscall.ENOSYS, syscall.EOPNOTSUPP},
		{"kernel-internal", syscall.Errno(512), syscall.EIO},
		{"no error number", syscall.Errno(0), syscall.EIO},
	} {
		if got := Errno(c.err); got != c.want {
			t.Errorf("%s: Errno(%v) = %v, want %v", c.name, c.err, got, c.want)
		}
	}
}

// Whatever a system call returns, the kernel takes the answer, and no failure
// switches an operation off.
func TestErrnoIsAnswerable(t *testing.T) {
	for e := range syscall.Errno(4096) {
		got := Errno(e)
		if got <= 0 || got > maxErrno || got == syscall.ENOSYS {
			t.Errorf("Errno(%d) = %d", e, got)
		}
	}
}
