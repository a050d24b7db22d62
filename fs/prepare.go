package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// What keeps a directory from being mounted on.
var (
	ErrNoDir          = errors.New("no such directory; create it first")
	ErrNotDir         = errors.New("not a directory")
	ErrAlreadyMounted = errors.New("already a walback mount")
)

// Prepare finds out whether dir can be mounted on and returns its absolute path
// without symbolic links. A mount whose daemon was killed is taken down first,
// so that the plain directory is there again. The errors match ErrNoDir,
// ErrNotDir, ErrAlreadyMounted, or tell which system call failed.
func Prepare(dir string) (string, error) {
	path, err := resolve(dir)
	if err != nil {
		return "", err
	}
	// Dead mounts can lie on top of each other.
	for {
		m, mounted, err := topMount(path)
		if err != nil {
			return "", err
		}
		if !mounted || !m.ours() {
			break
		}
		if alive(path) {
			return "", fmt.Errorf("%s: %w, of %s; unmount it first", path, ErrAlreadyMounted, m.source)
		}
		if err := detach(path); err != nil {
			return "", fmt.Errorf("%s: taking down the mount a killed walback left: %w", path, err)
		}
	}
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return "", fmt.Errorf("%s: a FUSE mount whose daemon is gone is in the way; unmount it (umount -l)", path)
	case err != nil:
		return "", err
	case !st.IsDir():
		return "", fmt.Errorf("%s: %w", path, ErrNotDir)
	}
	return path, nil
}

// resolve makes dir absolute and follows symbolic links above and at it. The
// directory itself is not asked: it may be a dead mount, and the links are read
// in its parent.
func resolve(dir string) (string, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	real, err := filepath.EvalSymlinks(path)
	switch {
	case err == nil:
		return real, nil
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("%s: %w", path, ErrNoDir)
	case errors.Is(err, syscall.ENOTDIR):
		return "", fmt.Errorf("%s: %w", path, ErrNotDir)
	case !errors.Is(err, syscall.ENOTCONN):
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(path)), nil
}

// alive reports whether a daemon answers for the mount at dir. statfs is the
// question the kernel never answers from its caches; a stat may still succeed
// long after the daemon has died.
func alive(dir string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED)
}
