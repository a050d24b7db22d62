package live

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// takeInAll walks the backing tree below path and follows every database in it.
// A file that cannot be read is logged and passed over.
func (s *set) takeInAll(path string) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	var linked hardLinks
	top := filepath.Join(s.root, filepath.FromSlash(path))
	err := filepath.WalkDir(top+"/.", func(name string, e fs.DirEntry, err error) error {
		if s.isClosed() {
			return fs.SkipAll
		}
		if err != nil {
			if name == top+"/." {
				return err
			}
			s.logger.Warn("not looked into for databases", "path", name, "error", err)
			return nil
		}
		rel, err := filepath.Rel(s.root, name)
		if err != nil {
			return err
		}
		if e.IsDir() && rel == controlDir {
			return filepath.SkipDir
		}
		rel = filepath.ToSlash(rel)
		if e.Type().IsRegular() && roleOf(rel) == rolePlain && !linked.add(rel, s.named(rel)) {
			g.Go(func() error {
				s.consider(rel)
				return nil
			})
		}
		return nil
	})
	err = errors.Join(err, g.Wait())
	for _, names := range linked.files {
		s.consider(s.preferred(names))
	}
	return err
}

// consider follows the file at path if it is a database and not followed yet.
func (s *set) consider(path string) {
	defer s.Names(false)()
	if s.trust(path) {
		return
	}
	f, err := openRegular(s.backing(path))
	if err == nil {
		_, err = readHeader(f)
		f.Close() // only read
	}
	switch {
	case errors.Is(err, errNotDatabase), errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		s.logger.Warn("not looked at for a database", "path", path, "error", err)
		return
	}
	id := s.named(path).id
	s.mu.Lock()
	d := s.owner(id)
	if d == nil {
		d = s.at(path)
	}
	s.mu.Unlock()
	if d.path != path {
		s.alsoCalled(d, path)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase == idle {
		d.takeIn()
	}
}

// considerFile follows an open file that was written to.
func (s *set) considerFile(f *openFile) {
	s.mu.Lock()
	var path string
	if p := f.is.Load(); p.d != nil && p.role == rolePlain {
		path = p.d.path
	}
	s.mu.Unlock()
	if path != "" {
		s.consider(path)
	}
}

// openRegular opens a file to read; another kind of file is no database. Nothing
// is waited for, and no symbolic link is followed, which may lead into the mount.
func openRegular(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return nil, errNotDatabase
	}
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errNotDatabase
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// backing returns where the file path really is.
func (s *set) backing(path string) string { return filepath.Join(s.root, filepath.FromSlash(path)) }

// named is what is known of a file of the backing tree; nothing if it is not
// there.
type named struct {
	id    fileID
	dir   bool
	links uint32
}

func (s *set) named(path string) named {
	st, err := statAt(unix.AT_FDCWD, s.backing(path))
	if err != nil {
		return named{}
	}
	return named{id: idOf(&st), dir: st.Mode&unix.S_IFMT == unix.S_IFDIR, links: st.Nlink}
}
