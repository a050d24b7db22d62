package live

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/wal"
)

// logSuffix is what SQLite appends to a database's name for its log.
const logSuffix = "-wal"

// set is the watcher of a live mount: the files that are, or may become,
// databases to follow.
type set struct {
	root   string // of the backing tree
	open   func(path string) (Sink, error)
	now    func() time.Time
	logger *slog.Logger
	inGate int64 // bytes up to which a base image is read within the gate
	// closing ends when the set is closed, and background what runs until then.
	closing    context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup
	// dir is where the tree is mounted, nil until it is.
	dir atomic.Pointer[string]

	mu    sync.Mutex
	files map[string]*database // by the path of the main file
}

func newSet(root string, open func(string) (Sink, error), now func() time.Time, logger *slog.Logger) *set {
	s := &set{root: root, open: open, now: now, logger: logger, inGate: inGate, files: make(map[string]*database)}
	s.closing, s.cancel = context.WithCancel(context.Background())
	return s
}

// mountedAt tells where the tree is mounted, and that applications use it.
func (s *set) mountedAt(dir string) {
	s.dir.Store(&dir)
	s.background.Go(func() { s.verifyForever(s.closing) })
}

// mounted returns the path of a file in the mount.
func (s *set) mounted(path string) string {
	if dir := s.dir.Load(); dir != nil {
		return filepath.Join(*dir, filepath.FromSlash(path))
	}
	return filepath.Join(s.root, filepath.FromSlash(path)) // nobody else uses it yet
}

func (s *set) isClosed() bool { return s.closing.Err() != nil }

// at returns what is known of the main file at path, making it known if need
// be, and counts handles more of it.
func (s *set) at(path string, handles int) *database {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.files[path]
	if d == nil {
		d = &database{path: path, set: s}
		s.files[path] = d
	}
	d.handles += handles
	return d
}

// released counts a handle of d less, and forgets a file that nobody has open
// and that is no database.
func (s *set) released(d *database) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.handles--
	s.forget(d)
}

// forget drops d if nothing is left to remember of it. The caller holds s.mu.
func (s *set) forget(d *database) {
	if d.handles > 0 || s.files[d.path] != d || !d.mu.TryLock() {
		return
	}
	defer d.mu.Unlock()
	if d.phase == idle && d.sink == nil {
		delete(s.files, d.path)
	}
}

// known returns the database at path, or nil.
func (s *set) known(path string) *database {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[path]
}

// below returns the databases at or under path, in path order.
func (s *set) below(path string) []*database {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*database
	for p, d := range s.files {
		if p == path || path == "" || strings.HasPrefix(p, path+"/") {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b *database) int { return strings.Compare(a.path, b.path) })
	return found
}

// takeInAll walks the backing tree below path and follows every database in it. A file that cannot be read is logged and passed over.
func (s *set) takeInAll(path string) error {
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	top := filepath.Join(s.root, filepath.FromSlash(path))
	err := filepath.WalkDir(top+"/.", func(name string, e fs.DirEntry, err error) error {
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
		if e.Type().IsRegular() && mayBeDatabase(rel) {
			g.Go(func() error {
				s.consider(filepath.ToSlash(rel))
				return nil
			})
		}
		return nil
	})
	return errors.Join(err, g.Wait())
}

// mayBeDatabase tells by the name whether a file can be a main database file.
func mayBeDatabase(name string) bool {
	for _, suffix := range []string{logSuffix, "-shm", journalSuffix} {
		if strings.HasSuffix(name, suffix) {
			return false
		}
	}
	return true
}

// consider follows the file at path if it is a database and not followed yet.
func (s *set) consider(path string) {
	f, err := os.Open(filepath.Join(s.root, filepath.FromSlash(path)))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.logger.Warn("not looked at for a database", "path", path, "error", err)
		}
		return
	}
	_, err = readHeader(f)
	f.Close()
	if err != nil {
		if !errors.Is(err, errNotDatabase) {
			s.logger.Warn("not looked at for a database", "path", path, "error", err)
		}
		return
	}
	d := s.at(path, 0)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase == idle {
		d.takeIn()
	}
}

// save makes everything the database at path has committed available to the
// sink, on local disk.
func (s *set) save(path string) error {
	d := s.known(path)
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.look()
	d.save()
	if d.phase == broken {
		return d.err
	}
	return nil
}

// settle waits until no base image is being read, or ctx ends.
func (s *set) settle(ctx context.Context) error {
	for _, d := range s.below("") {
		d.mu.Lock()
		im := d.image
		d.mu.Unlock()
		if im == nil {
			continue
		}
		select {
		case <-im.ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// abandoned takes what was written last, now that nobody uses the mount.
func (s *set) abandoned() {
	for _, d := range s.below("") {
		d.abandoned()
	}
}

// close saves everything and lets go of all databases.
func (s *set) close() error {
	s.cancel()
	s.background.Wait()
	var errs []error
	for _, d := range s.below("") {
		errs = append(errs, d.close())
	}
	return errors.Join(errs...)
}

// Status is how the capture of one database stands.
type Status struct {
	Path  string      `json:"path"`
	Phase string      `json:"phase"` // idle, reading, following, broken
	Last  wal.TxnInfo `json:"last"`
	Error string      `json:"error,omitempty"`
}

func (s *set) status() []Status {
	var all []Status
	for _, d := range s.below("") {
		d.mu.Lock()
		if d.phase != idle {
			st := Status{Path: d.path, Phase: d.phase.String(), Last: d.last}
			if d.err != nil {
				st.Error = d.err.Error()
			}
			all = append(all, st)
		}
		d.mu.Unlock()
	}
	return all
}

// Opened implements watcher.
func (s *set) Opened(path string, flags int) watch {
	if base, ok := strings.CutSuffix(path, logSuffix); ok {
		return &logWatch{s.at(base, 1)}
	}
	if base, ok := strings.CutSuffix(path, journalSuffix); ok {
		return &journalWatch{s.at(base, 1)}
	}
	if !mayBeDatabase(path) {
		return nil
	}
	return &fileWatch{d: s.at(path, 1), written: flags&os.O_TRUNC != 0}
}

// Gate implements watcher.
func (s *set) Gate(path string, op gateOp) {
	for _, d := range s.affected(path, op) {
		d.mu.Lock()
		d.look()
		d.save()
		d.mu.Unlock()
	}
}

// Done implements watcher. It compares what is followed with what is there now.
func (s *set) Done(path string, op gateOp) {
	if base, ok := strings.CutSuffix(path, logSuffix); ok {
		if d := s.known(base); d != nil {
			d.logReplaced()
		}
		return
	}
	if base, ok := strings.CutSuffix(path, journalSuffix); ok {
		if d := s.known(base); d != nil {
			d.mu.Lock()
			d.journalChanged()
			d.mu.Unlock()
		}
		return
	}
	if op == opLink {
		return
	}
	for _, d := range s.affected(path, op) {
		d.fileReplaced(op)
	}
	if op != opRename {
		return
	}
	if err := s.takeInAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !isNotDir(err) {
		s.logger.Warn("not looked into for databases", "path", path, "error", err)
	}
	if mayBeDatabase(path) {
		s.consider(path)
	}
}

// affected returns the databases that an operation on a name touches.
func (s *set) affected(path string, op gateOp) []*database {
	base, _ := strings.CutSuffix(path, logSuffix)
	if op == opRename {
		return s.below(base)
	}
	if d := s.known(base); d != nil {
		return []*database{d}
	}
	return nil
}

var _ watcher = (*set)(nil)
