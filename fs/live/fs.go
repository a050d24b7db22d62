// Package live is the application's directory: a mount through which every file
// and directory passes unchanged, and which captures what is committed to the
// SQLite databases among them.
//
// tree.go, node.go, names.go, handle.go and dir.go pass on what the application
// does; watch.go says what of it the capture is told; set.go, database.go and
// the files beside them are the capture.
package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/fs"
)

// Options of a live mount.
type Options struct {
	// Backing is the directory that holds the files; empty means the mountpoint
	// itself, which the mount then covers.
	Backing string
	// Open returns the sink of the database at path, slash-separated and below
	// the root. Nil captures nothing.
	Open func(path string) (Sink, error)
	// Control has the files of the hidden directory .walback, each made anew
	// whenever it is opened.
	Control map[string]func() ([]byte, error)
	// Name is what /proc/mounts shows as mounted: the replica URL.
	Name string
	// AllowOther lets users in other than the one who mounts.
	AllowOther bool
	// Passthrough has the kernel pass reads and writes of databases in WAL mode on
	// to the backing files, where it can, instead of sending them to this process.
	Passthrough bool
	// Debug logs every request of the kernel.
	Debug bool
	// Rests is a file in which the mount remembers how it left databases that nobody
	// used, so that the next one need not read them; empty: there is none.
	Rests string
	// InProcess is for tests, see fs.Options.
	InProcess bool
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
	// Now is time.Now if nil.
	Now func() time.Time
}

// FS is a mounted live tree.
type FS struct {
	server *fs.Server
	tree   *tree
	set    *set // nil when nothing is captured
}

// Mount serves o.Backing at dir. Existing databases have been taken in when it
// returns. Errors match those of fs.Mount.
func Mount(dir string, o Options) (*FS, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Open == nil {
		return mount(dir, o, func(string) (watcher, error) { return indifferent{}, nil })
	}
	var s *set
	f, err := mount(dir, o, func(root string) (watcher, error) {
		s = newSet(root, o.Open, newClock(o.Now, sinceBoot, o.Logger).now, o.Logger)
		s.restFile = o.Rests
		s.recall()
		defer func() { s.remembered = nil }()
		return s, s.takeInAll("")
	})
	if err != nil {
		return nil, err
	}
	s.mountedAt(f.Dir())
	f.set = s
	return f, nil
}

// mount is Mount with any watcher. start is called before anything is served,
// with the path of the backing directory, which stays good until the watcher is
// closed; a watcher that comes with an error is closed too.
func mount(dir string, o Options, start func(root string) (watcher, error)) (*FS, error) {
	dir, err := fs.Prepare(dir)
	if err != nil {
		return nil, err
	}
	backing, err := backingOf(dir, o.Backing)
	if err != nil {
		return nil, err
	}
	t, err := openTree(backing)
	if err != nil {
		return nil, err
	}
	t.control = &controls{files: o.Control, logger: o.Logger}
	w, err := start(t.path())
	if w != nil {
		t.watcher = w
	}
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	root := &node{tree: t}
	defer close(t.decided)
	server, err := fs.Mount(dir, root, fs.Options{
		Kind:            fs.Live,
		Name:            o.Name,
		AllowOther:      o.AllowOther,
		Debug:           o.Debug,
		InProcess:       o.InProcess,
		EntryTimeout:    trust,
		AttrTimeout:     trust,
		NegativeTimeout: trust,
		Logger:          o.Logger,
		Released: func(request <-chan struct{}) {
			if n, ok := t.releasing.LoadAndDelete(request); ok {
				n.(*node).forgotten()
			}
		},
		Tune: func(s *gofs.Options) {
			s.OnAdd = root.addControls
			s.EnableAcl = true
			// Writing takes set-user-id bits away, which becomes our part (see
			// privileges.go). Otherwise the kernel asks before every single write
			// whether the file has capabilities to be taken away.
			s.ExtraCapabilities = fuse.CAP_HANDLE_KILLPRIV_V2
			s.MaxStackDepth = t.stackDepth()
		},
	})
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	if o.Passthrough {
		if err := t.passing(server); err != nil {
			o.Logger.Warn("reads and writes of databases go through walback, which is slower: the kernel cannot pass them on (that takes Linux 6.9 and CAP_SYS_ADMIN)", "reason", err)
		}
	}
	return &FS{server: server, tree: t}, nil
}

// backingOf returns the absolute backing directory for a mount at dir. It may
// be the mountpoint or lie inside it, but not around it: the mount would show
// itself.
func backingOf(dir, backing string) (string, error) {
	if backing == "" {
		return dir, nil
	}
	path, err := filepath.Abs(backing)
	if err != nil {
		return "", fmt.Errorf("%s: %w", backing, err)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("backing directory: %w", err)
	}
	if strings.HasPrefix(dir, strings.TrimSuffix(real, "/")+"/") {
		return "", fmt.Errorf("%s: the mountpoint %s lies inside the backing directory", real, dir)
	}
	return real, nil
}

// addControls puts the hidden directory beside the tree.
func (n *node) addControls(ctx context.Context) {
	n.NewPersistentInode(ctx, n.tree.control, gofs.StableAttr{Mode: fuse.S_IFDIR})
}

// Dir is where the tree is mounted: an absolute path without symbolic links.
func (f *FS) Dir() string { return f.server.Dir() }

// Save captures what the database at path has committed by now, and copies to
// local disk what only its log has of it.
func (f *FS) Save(path string) error {
	if f.set == nil {
		return nil
	}
	return f.set.save(path)
}

// Retry begins the capture of the database at path again, if it has ended for a
// reason that is no more. Otherwise that is tried now and then.
func (f *FS) Retry(path string) {
	if f.set != nil {
		f.set.retry(path)
	}
}

// Databases tells how the capture of every database stands, by path.
func (f *FS) Databases() []Status {
	if f.set == nil {
		return nil
	}
	return f.set.status()
}

// Unmount takes the tree down; plain files are left behind. While applications
// use it the error is a *fs.BusyError, and everything goes on. Call Close
// afterwards.
func (f *FS) Unmount(ctx context.Context) error { return f.server.Unmount(ctx) }

// Detach takes the tree out of its directory and goes on serving those who have
// files of it open. Wait tells when the last has closed them.
func (f *FS) Detach() error { return f.server.Detach() }

// Wait returns when nothing is mounted and served any more.
func (f *FS) Wait() { f.server.Wait() }

// Done is closed when Wait would return.
func (f *FS) Done() <-chan struct{} { return f.server.Done() }

// Settle waits until the base image of no database is being read any more: what
// is committed meanwhile has a past only when its image is complete. It returns
// ctx's error when that ends first.
func (f *FS) Settle(ctx context.Context) error {
	if f.set == nil {
		return nil
	}
	return f.set.settle(ctx)
}

// Close saves everything captured and lets go of the backing directory. The tree
// must be unmounted, or this process be about to end: who still has files of a
// detached tree open is served until then, and not captured any more.
func (f *FS) Close() error {
	select {
	case <-f.server.Done():
		if f.set != nil {
			f.set.abandoned()
		}
		return f.tree.close()
	default:
		return f.tree.watcher.close()
	}
}

// Remember notes how databases were left of which everything is in the store by
// now. It can be called after Close.
func (f *FS) Remember() error {
	if f.set == nil {
		return nil
	}
	return f.set.remember()
}

// indifferent is the watcher of a mount that captures nothing.
type indifferent struct{}

func (indifferent) Names(bool) func()                                          { return func() {} }
func (indifferent) Passable(string, int, int) bool                             { return false }
func (indifferent) Opened(string, int, *unix.Statx_t, int, bool) (watch, bool) { return nil, false }
func (indifferent) Gate(string, gateOp) func(bool)                             { return func(bool) {} }
func (indifferent) Rename(string, string, bool) func(bool)                     { return func(bool) {} }
func (indifferent) close() error                                               { return nil }
