// Package dirstore is the generations.Store in a directory: an object is a
// file, and its key is the file's path below the root.
//
//	<root>/c1/generations/018d…/wal/0000000042.wal     object
//	<root>/c1/generations/018d…/wal/.walback-tmp-K3V…  being written, or left over
//
// An object appears whole or not at all: it is written and synced under a
// temporary name next to its place and then renamed to it, which fails if the
// place is taken. Files and directories are the owner's alone (0600, 0700),
// since objects hold whole databases. Symbolic links below the root are not
// followed out of it and not listed.
package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/walback/walback/generations"
)

// Options are the choices of a Store; the zero value is a reader's.
type Options struct {
	// Create makes the root directory if it is missing.
	Create bool
	// NoSync leaves out every fsync: for what may be lost with the machine's
	// memory, and only then.
	NoSync bool
}

// Store is a generations.Store in a directory. It holds the directory open, so
// a disk mounted there cannot be unmounted and replaced by the empty directory
// below it.
type Store struct {
	root   *os.Root
	dir    string // absolute
	noSync bool

	mu    sync.Mutex
	swept map[string]bool // directories searched for left-over temporary files; guarded by mu
}

var _ generations.Store = (*Store)(nil)

// New opens the store in dir. A dir that does not exist is an error that
// matches generations.ErrNoBucket, unless o.Create is set.
func New(dir string, o Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	if o.Create {
		if err := makeRoot(dir, !o.NoSync); err != nil {
			return nil, storeError("open store", dir, err)
		}
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &generations.StoreError{Op: "open store", Name: dir, Kind: generations.ErrNoBucket, Err: err,
			Text: "the directory does not exist: mount its disk, or correct the URL"}
	}
	if err != nil {
		return nil, storeError("open store", dir, err)
	}
	return &Store{root: root, dir: dir, noSync: o.NoSync, swept: make(map[string]bool)}, nil
}

// makeRoot makes dir and the directories above it, each synced into its parent.
func makeRoot(dir string, sync bool) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil // if it is no directory, opening it says so
	}
	parent := filepath.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := makeRoot(parent, sync); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
	}
	if err != nil || !sync {
		return err
	}
	d, err := os.Open(parent)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// String is the store's URL.
func (s *Store) String() string {
	return generations.URL{Scheme: "file", Dir: s.dir}.String()
}

// tmpPrefix begins the names of files that are being written. No element of a
// key may begin with it.
const tmpPrefix = ".walback-tmp-"

// check tells why key cannot be the path of a file.
func (s *Store) check(op, key string) error {
	err := generations.CheckKey(key)
	for e := range strings.SplitSeq(key, "/") {
		switch {
		case err != nil:
		case strings.ContainsRune(e, 0):
			err = fmt.Errorf("key %q has a zero byte, which no file name can hold", key)
		case len(e) > syscall.NAME_MAX:
			err = fmt.Errorf("key %q has an element of %d bytes; file names have at most %d", key, len(e), syscall.NAME_MAX)
		case strings.HasPrefix(e, tmpPrefix):
			err = fmt.Errorf("key %q has an element that begins with %s, which is for temporary files", key, tmpPrefix)
		}
	}
	if err != nil {
		return s.invalid(op, err)
	}
	return nil
}

// invalid reports a call that no store can carry out.
func (s *Store) invalid(op string, err error) error {
	return &generations.StoreError{Op: op, Name: s.dir, Text: err.Error(), Err: fs.ErrInvalid}
}

// rootGone is the error if the root was removed while the store has it open,
// when everything below it seems merely absent.
func (s *Store) rootGone(op string) error {
	info, err := s.root.Stat(".")
	if err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Nlink > 0 {
			return nil
		}
		err = fs.ErrNotExist
	}
	return &generations.StoreError{Op: op, Name: s.dir, Kind: generations.ErrNoBucket, Err: err,
		Text: "the store's directory was removed: put it back and start again"}
}

// fail reports what a system call on key said.
func (s *Store) fail(op, key string, err error) error {
	if e, ok := errors.AsType[*generations.StoreError](err); ok {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s %s: %w", op, filepath.Join(s.dir, key), err)
	}
	return storeError(op, filepath.Join(s.dir, key), err)
}

// storeError says what to do about err, the failure of a system call on the
// file or directory name.
func storeError(op, name string, err error) error {
	e := &generations.StoreError{Op: op, Name: name, Text: reason(err), Err: err}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Kind = generations.ErrDenied
		e.Text += ": run as the user who owns it, or change its mode"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Text += ": make room there"
	case errors.Is(err, syscall.EROFS):
		e.Text += ": mount it writable"
	}
	return e
}

// reason is err without the operation and path that the os package adds and
// StoreError says already.
func reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// absent tells whether err means that no object can be at a path: nothing is
// there, or an object lies where a directory would have to be.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// Get implements generations.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (*generations.Body, error) {
	if err := s.check("get", key); err != nil {
		return nil, err
	}
	if off < 0 && n >= 0 {
		return nil, &generations.StoreError{Op: "get", Name: filepath.Join(s.dir, key), Err: fs.ErrInvalid,
			Text: fmt.Sprintf("a range of %d bytes cannot begin at %d", n, off)}
	}
	if err := ctx.Err(); err != nil {
		return nil, s.fail("get", key, err)
	}
	f, err := s.open(key)
	if err != nil {
		return nil, s.fail("get", key, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(s.fail("get", key, err), f.Close())
	}
	size := info.Size()
	if off < 0 {
		off = max(0, size+off)
	}
	off = min(off, size)
	if n < 0 || n > size-off {
		n = size - off
	}
	r := &body{ctx: ctx, r: io.NewSectionReader(f, off, n), left: n, f: f}
	return &generations.Body{ReadCloser: r, ObjectSize: size}, nil
}

// open opens the object key, or gives ErrNotFound. It does not wait for a FIFO's
// writer, and what is no regular file is no object.
func (s *Store) open(key string) (*os.File, error) {
	f, err := s.root.OpenFile(key, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil && !absent(err) {
		return nil, err
	}
	if err == nil {
		info, err := f.Stat()
		if err == nil && info.Mode().IsRegular() {
			return f, nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	if err := s.rootGone("get"); err != nil {
		return nil, err
	}
	return nil, &generations.StoreError{Op: "get", Name: filepath.Join(s.dir, key), Kind: generations.ErrNotFound, Text: "no such object", Err: err}
}

// body reads a range of an object.
type body struct {
	ctx  context.Context // of the Get
	r    *io.SectionReader
	left int64 // bytes of the range not read yet
	f    *os.File
}

// Read fails once the context of the Get has ended, and with
// io.ErrUnexpectedEOF if the file became shorter.
func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, fmt.Errorf("read %s: %w", b.f.Name(), err)
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 {
		err = fmt.Errorf("read %s: the file became shorter: %w", b.f.Name(), io.ErrUnexpectedEOF)
	}
	return n, err
}

func (b *body) Close() error { return b.f.Close() }

// Dirs implements generations.Store. Directories without any object below them
// (a crash can leave one) are not told of.
func (s *Store) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := generations.CheckPrefix(prefix); err != nil {
			yield("", s.invalid("list", err))
			return
		}
		w := s.walker(ctx)
		entries, err := w.read(strings.TrimSuffix(prefix, "/"))
		if err != nil {
			yield("", s.fail("list", prefix, err))
			return
		}
		for _, e := range entries {
			if !e.dir {
				continue
			}
			some, err := w.hasObject(prefix + e.name)
			if err != nil {
				yield("", s.fail("list", prefix+e.name, err))
				return
			}
			if some && !yield(e.name, nil) {
				return
			}
		}
	}
}
