package live

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walback/walback/wal"
)

// set is the watcher of a live mount: the files that are, or may become,
// databases to follow.
type set struct {
	root   string // of the backing tree
	open   func(path string) (Sink, error)
	now    func() time.Time
	logger *slog.Logger
	inGate int64 // bytes up to which a base image is read within the gate
	tail   *tail // of the logs that are written past the daemon
	// closing ends when the set is closed, and background what runs until then.
	closing    context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup
	// dir is where the tree is mounted, nil until it is.
	dir atomic.Pointer[string]

	// names is held while a path is in use, and exclusively while files get other
	// paths. It is taken before the lock of any database, and that before mu.
	names sync.RWMutex
	moved []string // paths at and below which databases may be new; guarded by names

	mu     sync.Mutex
	files  map[string]*database // by the path of the main file
	opened map[fileID]*openFile // what the application has open
	owners map[fileID]*database // who has claimed which main file
	// searching is nil unless names of databases are being looked for; then it is
	// sent to for looking once more.
	searching chan struct{}

	noLocks sync.Once // says that the filesystem has none

	// Of databases at rest, see rest.go.
	restFile   string           // where they are remembered; "": nowhere
	remembered map[string]*rest // by an earlier mount, while this one begins
	restAfter  time.Duration
	settleTime time.Duration
	lulled     map[*database]time.Time // followed, and since when without use; guarded by mu
	sweeper    *time.Timer             // nil when none is to be put to rest; guarded by mu
}

func newSet(root string, open func(string) (Sink, error), now func() time.Time, logger *slog.Logger) *set {
	s := &set{
		root: root, open: open, now: now, logger: logger, inGate: inGate,
		files:  make(map[string]*database),
		opened: make(map[fileID]*openFile),
		owners: make(map[fileID]*database),
		lulled: make(map[*database]time.Time), restAfter: restAfter, settleTime: settleTime,
	}
	s.tail = newTail(logger)
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
// be. The caller holds s.mu.
func (s *set) at(path string) *database {
	d := s.files[path]
	if d == nil {
		d = &database{path: path, set: s}
		s.files[path] = d
	}
	return d
}

// forget drops d if nothing is left to remember of it. The caller holds s.mu.
func (s *set) forget(d *database) {
	if d.handles > 0 || s.files[d.path] != d || !d.mu.TryLock() {
		return
	}
	defer d.mu.Unlock()
	if d.phase == idle && d.sink == nil {
		delete(s.files, d.path)
		s.disclaim(d)
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
		if _, ok := under(p, path); ok || path == "" {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b *database) int { return strings.Compare(a.path, b.path) })
	return found
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

// retry begins the capture of the database at path again if it has ended, now and
// not after the backoff.
func (s *set) retry(path string) {
	d := s.known(path)
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase == broken {
		d.retry, d.backoff = time.Time{}, 0
		d.again()
	}
}

// settle waits until no base image is being read, or ctx ends.
func (s *set) settle(ctx context.Context) error {
	for _, d := range s.below("") {
		for im := d.inProgress(); im != nil; im = d.inProgress() { // another one may follow
			select {
			case <-im.ended:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// inProgress returns what is being read of the database, nil if nothing is.
func (d *database) inProgress() *imaging {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.image
}

// abandoned takes what was written last, now that nobody uses the mount.
func (s *set) abandoned() {
	for _, d := range s.below("") {
		d.abandoned()
	}
}

// close saves everything and lets go of all databases.
func (s *set) close() error {
	s.mu.Lock()
	s.cancel() // nothing begins in the background any more
	s.mu.Unlock()
	s.tail.close()
	s.background.Wait()
	s.mu.Lock()
	if s.sweeper != nil {
		s.sweeper.Stop()
	}
	unused := slices.Collect(maps.Keys(s.lulled))
	s.mu.Unlock()
	s.putToRest(unused, true)
	var errs []error
	for _, d := range s.below("") {
		errs = append(errs, d.close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.opened { // the kernel has not said that they are closed
		s.leave(f)
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
		if d.logs.Load() > 0 { // nobody has told of what was written past the daemon
			d.look()
		}
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

var _ watcher = (*set)(nil)
