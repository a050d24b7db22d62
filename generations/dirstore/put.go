package dirstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/generations"
)

// Put implements generations.Store. When it returns nil or ErrExists the object
// is on disk, its name included (but see Options.NoSync).
func (s *Store) Put(ctx context.Context, key string, body *io.SectionReader) error {
	if err := s.check("put", key); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return s.fail("put", key, err)
		}
		err := s.putOnce(ctx, key, body)
		switch {
		case errors.Is(err, errDirGone):
			// A Delete removed the directory that had just become empty, or
			// somebody removed the root.
			if err := s.rootGone("put"); err != nil {
				return err
			}
			continue
		case errors.Is(err, fs.ErrExist):
			return s.exists(key, err)
		case errors.Is(err, syscall.ENOTDIR):
			return &generations.StoreError{Op: "put", Name: filepath.Join(s.dir, key), Err: err,
				Text: "an object lies where its directory would have to be"}
		case err != nil:
			return s.fail("put", key, err)
		}
		return nil
	}
}

// exists is the answer to a Put whose place is taken.
func (s *Store) exists(key string, err error) error {
	e := &generations.StoreError{Op: "put", Name: filepath.Join(s.dir, key), Kind: generations.ErrExists, Text: "object exists", Err: err}
	if info, err := s.root.Lstat(key); err == nil && !info.Mode().IsRegular() {
		e.Kind, e.Err = nil, fs.ErrInvalid
		e.Text = "something that is no object lies in its place: " + info.Mode().Type().String()
	}
	return e
}

// errDirGone tells putOnce's caller to make the directory again.
var errDirGone = errors.New("the directory was removed meanwhile")

// putOnce writes one object. The error is errDirGone, or matches fs.ErrExist, or
// is any other.
func (s *Store) putOnce(ctx context.Context, key string, body *io.SectionReader) (err error) {
	parent, name := path.Split(key)
	parent = path.Clean(parent)
	if err := s.makeDir(parent); err != nil {
		return err
	}
	dir, err := s.root.Open(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return errDirGone
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	s.sweep(dir, parent)

	tmp := tmpPrefix + rand.Text()
	f, err := openAt(dir, tmp)
	if errors.Is(err, fs.ErrNotExist) {
		return errDirGone
	}
	if err != nil {
		return err
	}
	// From here on the directory is not empty, so nobody removes it.
	if err := s.fill(ctx, f, body); err != nil {
		return errors.Join(err, unlinkAt(dir, tmp))
	}
	if err := publish(dir, tmp, name); err != nil {
		if e := unlinkAt(dir, tmp); e != nil {
			return errors.Join(err, e)
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Whoever put it may have died before syncing the directory.
		if e := s.sync(dir); e != nil {
			return e
		}
		return err
	}
	return s.sync(dir)
}

// fill copies body into f, syncs and closes it.
func (s *Store) fill(ctx context.Context, f *os.File, body *io.SectionReader) error {
	r := io.NewSectionReader(body, 0, body.Size()) // body's own offset is the caller's
	buf := make([]byte, min(max(body.Size(), 1), 256<<10))
	// Hiding what else f can do makes CopyBuffer use buf, and look at ctx as often.
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, &contextReader{ctx, r}, buf)
	if err == nil && n != body.Size() {
		err = fmt.Errorf("the source ended after %d of %d bytes: %w", n, body.Size(), io.ErrUnexpectedEOF)
	}
	if err == nil {
		err = s.sync(f)
	}
	return errors.Join(err, f.Close())
}

// contextReader ends a copy with the context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func (s *Store) sync(f *os.File) error {
	if s.noSync {
		return nil
	}
	return f.Sync()
}

// makeDir makes the directory dir of the store ("." is the root) and what is
// missing above it, each synced into its parent. errDirGone: something was
// removed meanwhile. The root itself is never made again.
func (s *Store) makeDir(dir string) error {
	if dir == "." {
		return nil
	}
	err := s.root.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	parent := path.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if parent == "." {
			return errDirGone
		}
		if err := s.makeDir(parent); err != nil {
			return err
		}
		err = s.root.Mkdir(dir, 0o700)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			return errDirGone
		}
	}
	if err != nil || s.noSync {
		return err
	}
	d, err := s.root.Open(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return errDirGone
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// openAt creates the file name in dir.
func openAt(dir *os.File, name string) (*os.File, error) {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Openat(int(dir.Fd()), name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// publish renames tmp to name in dir, or fails with fs.ErrExist if name is
// taken. Where the filesystem cannot rename like that (NFS), it links.
func publish(dir *os.File, tmp, name string) error {
	fd := int(dir.Fd())
	_, err := ignoringEINTR(func() (int, error) {
		return 0, unix.Renameat2(fd, tmp, fd, name, unix.RENAME_NOREPLACE)
	})
	if err == unix.EINVAL || err == unix.ENOSYS {
		return link(dir, tmp, name)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: tmp, New: name, Err: err}
	}
	return nil
}

// link is publish by hard link.
func link(dir *os.File, tmp, name string) error {
	fd := int(dir.Fd())
	_, err := ignoringEINTR(func() (int, error) { return 0, unix.Linkat(fd, tmp, fd, name, 0) })
	if err != nil {
		return &os.LinkError{Op: "link", Old: tmp, New: name, Err: err}
	}
	return unlinkAt(dir, tmp)
}

func unlinkAt(dir *os.File, name string) error {
	_, err := ignoringEINTR(func() (int, error) { return 0, unix.Unlinkat(int(dir.Fd()), name, 0) })
	if err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// ignoringEINTR repeats a system call that a signal interrupted.
func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// Delete implements generations.Store. It also removes the directories that
// became empty, the root excepted.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.check("delete", key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return s.fail("delete", key, err)
	}
	parent, name := path.Split(key)
	parent = path.Clean(parent)
	dir, err := s.root.Open(parent)
	if absent(err) {
		return nil
	}
	if err != nil {
		return s.fail("delete", key, err)
	}
	defer dir.Close()
	s.sweep(dir, parent)
	err = unlinkAt(dir, name)
	switch {
	case errors.Is(err, syscall.EISDIR):
		return nil // a directory is no object
	case errors.Is(err, syscall.ENOTDIR):
		return nil // neither is anything below a file
	case err != nil:
		return s.fail("delete", key, err)
	}
	if err := s.sync(dir); err != nil {
		return s.fail("delete", key, err)
	}
	return s.removeEmpty(parent)
}

// removeEmpty removes dir and the directories above it as far as they are empty.
// They need no sync: an empty directory that is back after a crash is nothing.
func (s *Store) removeEmpty(dir string) error {
	for ; dir != "."; dir = path.Dir(dir) {
		err := s.root.Remove(dir)
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist):
			s.mu.Lock()
			delete(s.swept, dir)
			s.mu.Unlock()
		case errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, fs.ErrExist):
			return nil
		default:
			return s.fail("delete", dir, err)
		}
	}
	return nil
}

// leftOverAge is how old a temporary file is before it counts as left behind by
// a crash. Writing refreshes the age, so it is well above any pause in writing.
const leftOverAge = 24 * time.Hour

// sweep removes what crashes left in dir, once for each directory. That it
// could not is no reason to fail: the files are in nobody's way.
func (s *Store) sweep(dir *os.File, name string) {
	s.mu.Lock()
	done := s.swept[name]
	s.swept[name] = true
	s.mu.Unlock()
	if done {
		return
	}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tmpPrefix) || !e.Type().IsRegular() {
			continue
		}
		info, err := s.root.Lstat(path.Join(name, e.Name()))
		if err == nil && time.Since(info.ModTime()) > leftOverAge {
			_ = unlinkAt(dir, e.Name()) // the next process tries again
		}
	}
}
