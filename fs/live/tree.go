package live

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"
)

// trust is how long the kernel may believe names, attributes and the absence of
// names without asking again. Everything changes through the mount, so the
// kernel knows of every change; the time only bounds how long it would go on
// with what somebody changed underneath.
const trust = time.Hour

// tree is what the nodes of one mount have in common.
type tree struct {
	// dir is the backing directory (O_PATH). It was opened before anything was
	// mounted over it, and everything is reached through it.
	dir     int
	dev     uint64 // its device, see identity
	umask   uint32 // of this process, which the kernel has applied already
	asRoot  bool   // files can be given to the users who create them
	watcher watcher
	control *controls
	crowd   crowd
	past    bool // files can be passed; known when decided is closed
	decided chan struct{}
	lost    atomic.Int64 // when a file has lost its last name, in Unix nanoseconds
	// releasing has the nodes of releases under way, by the request.
	releasing sync.Map

	mu   sync.Mutex
	kept map[*keptFile]struct{} // guarded by mu; those not closed yet
}

// openTree opens the backing directory.
func openTree(backing string) (*tree, error) {
	fd, err := unix.Open(backing, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the backing directory %s: %w", backing, err)
	}
	st, err := statAt(fd, "")
	if err == nil {
		var umask uint32
		if umask, err = processUmask(); err == nil {
			return &tree{dir: fd, dev: device(&st), umask: umask, asRoot: os.Geteuid() == 0, watcher: indifferent{}, decided: make(chan struct{}), kept: make(map[*keptFile]struct{})}, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("backing directory %s: %w", backing, err), unix.Close(fd))
}

// path is how the backing directory is reached below whatever is mounted over it.
func (t *tree) path() string { return procPath(t.dir) }

// close closes the watcher, which still needs the backing directory, then that,
// and the files that the kernel never said it had forgotten. Nothing is served
// any more. Closing again does nothing.
func (t *tree) close() error {
	err := t.watcher.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dir < 0 {
		return err
	}
	for k := range t.kept {
		err = errors.Join(err, unix.Close(k.fd))
	}
	clear(t.kept)
	err = errors.Join(err, unix.Close(t.dir))
	t.dir = -1
	return err
}

// identity tells a file from all others of the tree, also from later ones of
// the same inode number. The device counts relative to the root's, so that
// inode numbers are those of the backing filesystem unless others are mounted
// inside it.
func (t *tree) identity(st *unix.Statx_t) gofs.StableAttr {
	const half = 32
	dev, root := device(st), t.dev
	swapped := (dev<<half | dev>>half) ^ (root<<half | root>>half)
	born := uint64(st.Btime.Sec)*uint64(time.Second) + uint64(st.Btime.Nsec)
	return gofs.StableAttr{Mode: uint32(st.Mode) & syscall.S_IFMT, Ino: swapped ^ st.Ino, Gen: max(born, 1)}
}

func device(st *unix.Statx_t) uint64 { return unix.Mkdev(st.Dev_major, st.Dev_minor) }

// procPath names an open descriptor of this process. It also serves for calls
// that take no O_PATH descriptor (chmod, truncate, xattrs).
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// openAt opens a path below dir. No symbolic link is followed, wherever it is:
// the kernel has resolved them already, in the application's name, and what is
// one by now was put there to get at files outside.
func openAt(dir int, path string, flags int, mode uint32) (int, error) {
	return unix.Openat2(dir, path, &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Mode:    uint64(mode & 07777),
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// statAt returns the attributes of name in dir, or of dir itself when name is
// empty. Symbolic links are not followed.
func statAt(dir int, name string) (unix.Statx_t, error) {
	var st unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	err := unix.Statx(dir, name, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	return st, err
}

// processUmask reads the umask of this process without changing it
// (proc_pid_status(5)).
func processUmask() (uint32, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "Umask:"); ok {
			umask, err := strconv.ParseUint(strings.TrimSpace(value), 8, 32)
			return uint32(umask), err
		}
	}
	return 0, errors.New("/proc/self/status has no umask")
}
