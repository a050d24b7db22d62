// Package fs puts trees of files where applications find them: mounting,
// unmounting, what is mounted already, and which error number an error becomes.
// The trees themselves are fs/live, the application's directory, and
// fs/history, the past.
package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Kind says which tree a mount shows; /proc/mounts has it as "fuse.KIND".
type Kind string

// The kinds of mounts.
const (
	Live    Kind = "walback"
	History Kind = "walback-history"
)

func fuseType(k Kind) string { return "fuse." + string(k) }

// Options of a mount. The zero value mounts a Live tree for the calling user
// alone, and the kernel asks again for every name and attribute.
type Options struct {
	Kind Kind
	// Name is what is mounted, the first field of /proc/mounts: the replica URL.
	Name string
	// ReadOnly makes the kernel refuse every write.
	ReadOnly bool
	// AllowOther lets every user in, as far as owners and modes allow. A user
	// other than root needs user_allow_other in /etc/fuse.conf.
	AllowOther bool
	// Debug logs every request.
	Debug bool
	// InProcess is for tests: the process that mounts may itself open files of the
	// mount. If it is killed while it does, the kernel waits for ever for its own
	// answer, and neither ends the process nor lets go of the mount; without
	// InProcess it never opens any.
	InProcess bool

	// How long the kernel may believe names, attributes and the absence of names.
	EntryTimeout, AttrTimeout, NegativeTimeout time.Duration

	// Logger gets what go-fuse has to say; nil is slog.Default().
	Logger *slog.Logger

	// Released, if set, is called when go-fuse is through with the release of a file
	// handle, with the channel that the context of that request had as Done. Only
	// then has it forgotten what the handle had to do with passthrough.
	Released func(request <-chan struct{})

	// Tune, if set, changes what is handed to go-fuse, last of all.
	Tune func(*gofs.Options)
}

// releases is a filesystem that tells when a release is over.
type releases struct {
	fuse.RawFileSystem
	over func(request <-chan struct{})
}

// Release implements fuse.RawFileSystem.
func (r releases) Release(cancel <-chan struct{}, input *fuse.ReleaseIn) {
	r.RawFileSystem.Release(cancel, input)
	r.over(cancel)
}

// What keeps a machine from mounting anything.
var (
	ErrNoFUSE       = errors.New("no /dev/fuse: load the kernel module fuse, or give the container the device")
	ErrNotPermitted = errors.New("mounting is not permitted")
	ErrNoAllowOther = errors.New("only root may let other users in: add user_allow_other to /etc/fuse.conf")
)

// Server is a mounted tree.
type Server struct {
	dir       string
	inProcess bool
	mount     mount
	fuse      *fuse.Server
	done      chan struct{} // closed when nothing is served any more
}

// Mount shows root at dir and returns when it can be used. Errors match those of
// Prepare, or ErrNoFUSE, ErrNotPermitted, ErrNoAllowOther.
func Mount(dir string, root gofs.InodeEmbedder, o Options) (*Server, error) {
	path, err := Prepare(dir)
	if err != nil {
		return nil, err
	}
	if o.Kind == "" {
		o.Kind = Live
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.AllowOther && os.Geteuid() != 0 && !userAllowOther() {
		return nil, fmt.Errorf("%s: %w", path, ErrNoAllowOther)
	}
	settings := o.settings()
	raw := gofs.NewNodeFS(root, settings)
	if o.Released != nil {
		raw = releases{raw, o.Released}
	}
	server, err := attach(raw, path, settings.MountOptions)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s := &Server{dir: path, inProcess: o.InProcess, fuse: server, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		server.Serve()
	}()
	if err := s.started(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), detach(path))
	}
	return s, nil
}

// Passes returns nil if the kernel can pass the I/O of an open file of the mount
// on to fd (FUSE passthrough), and otherwise why not.
func (s *Server) Passes(fd int) error {
	id, errno := s.fuse.RegisterBackingFd(&fuse.BackingMap{Fd: int32(fd)})
	if errno == 0 {
		errno = s.fuse.UnregisterBackingFd(id)
	}
	if errno != 0 {
		return fmt.Errorf("FUSE passthrough: %w", errno)
	}
	return nil
}

// started remembers which mount it is. go-fuse's WaitMount, which opens a file of
// the mount so that poll is refused once and for all, is for InProcess only.
func (s *Server) started() error {
	if s.inProcess {
		if err := s.fuse.WaitMount(); err != nil {
			return fmt.Errorf("waiting for the mount: %w", err)
		}
	}
	m, ok, err := topMount(s.dir)
	if err != nil {
		return err
	}
	if !ok || !m.ours() {
		return errors.New("the mount is not in /proc/self/mountinfo")
	}
	s.mount = m
	return nil
}

// settings translates o for go-fuse.
func (o Options) settings() *gofs.Options {
	logger := slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn)
	s := &gofs.Options{
		MountOptions: fuse.MountOptions{
			AllowOther: o.AllowOther,
			// The kernel checks owners and modes; without this the daemon's rights
			// would be everybody's.
			Options: []string{"default_permissions"},
			FsName:  o.Name,
			Name:    string(o.Kind),
			Debug:   o.Debug,
			Logger:  logger,
			// Readahead and direct writes in flight at a time; the default of 12 is
			// meant for slow stores.
			MaxBackground: 64,
			// Files change through the mount only; what has been read stays valid
			// however modification times move.
			ExplicitDataCacheControl: true,
		},
		EntryTimeout:    &o.EntryTimeout,
		AttrTimeout:     &o.AttrTimeout,
		NegativeTimeout: &o.NegativeTimeout,
		// A file of mode 000 is one.
		NullPermissions: true,
		Logger:          logger,
	}
	if o.ReadOnly {
		s.Options = append(s.Options, "ro")
	}
	if o.Tune != nil {
		o.Tune(s)
	}
	return s
}

// attach mounts raw at dir: with mount(2) where that is permitted, otherwise
// with fusermount3.
func attach(raw fuse.RawFileSystem, dir string, o fuse.MountOptions) (*fuse.Server, error) {
	if _, err := os.Stat("/dev/fuse"); errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoFUSE
	}
	if os.Geteuid() == 0 {
		o.DirectMountStrict = true
		server, err := fuse.NewServer(raw, dir, &o)
		if err == nil || !errors.Is(err, os.ErrPermission) {
			return server, err
		}
		o.DirectMountStrict = false
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		return nil, fmt.Errorf("%w: this user may not open /dev/fuse: %w", ErrNotPermitted, err)
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return nil, fmt.Errorf("%w: it takes root (in a container, with CAP_SYS_ADMIN) or fusermount3, which is not installed (package fuse3)", ErrNotPermitted)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return nil, fmt.Errorf("fusermount3 mounts only on directories the user may write to: %w", err)
	}
	server, err := fuse.NewServer(raw, dir, &o)
	if err != nil {
		// fusermount3 has told the reason on standard error.
		return nil, fmt.Errorf("fusermount3: %w", err)
	}
	return server, nil
}

// Dir is where s is mounted: an absolute path without symbolic links.
func (s *Server) Dir() string { return s.dir }

// FUSE is the server of the library underneath.
func (s *Server) FUSE() *fuse.Server { return s.fuse }

// Wait returns when s is not mounted any more, whoever unmounted it, and no
// application uses it.
func (s *Server) Wait() { <-s.done }

// Done is closed when Wait would return.
func (s *Server) Done() <-chan struct{} { return s.done }

// wait is Wait under a context.
func (s *Server) wait(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	places, err := elsewhere(s.mount)
	if len(places) > 0 {
		return &BusyError{Dir: s.dir, Files: places}
	}
	return errors.Join(fmt.Errorf("%s: unmounted, but something still uses it: %w", s.dir, ctx.Err()), err)
}
