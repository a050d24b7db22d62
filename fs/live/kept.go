package live

import (
	"errors"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"
)

// keptFile is a file or directory without a name that the kernel still knows.
// Somebody may have looked it up just before it was removed or replaced and is
// about to open it, or reopen it through /proc, or have it as working directory:
// on a local filesystem that works.
type keptFile struct {
	fd int // O_PATH
}

var _ gofs.NodeOnForgetter = (*node)(nil)

// losing opens the file that name in the directory n leads to, which is about to
// be removed or replaced. The caller passes the result to lost afterwards. It is
// nil when the kernel does not know it.
func (n *node) losing(name string) *losing {
	inode := n.GetChild(name)
	if inode == nil {
		return nil
	}
	child, ok := inode.Operations().(*node)
	if !ok {
		return nil
	}
	fd, _, err := child.open(unix.O_PATH)
	if err != nil {
		return nil // gone already, or in a way that the operation itself will tell
	}
	return &losing{node: child, fd: fd}
}

type losing struct {
	node *node
	fd   int
}

// lost keeps the file if that was its last name.
func (l *losing) lost() error {
	if l == nil {
		return nil
	}
	st, err := statAt(l.fd, "")
	if err == nil && st.Nlink == 0 {
		l.node.tree.lost.Store(time.Now().UnixNano())
		if l.node.keep(l.fd) {
			return nil
		}
	}
	return errors.Join(err, unix.Close(l.fd))
}

// forgetting is how long it may take until the kernel has told that nobody uses a
// file any more that has lost its last name.
const forgetting = 20 * time.Millisecond

// makesRoom reports whether space is about to be free, a moment later: that of a
// file which has just been removed is, on a local filesystem, at once.
func (t *tree) makesRoom() bool {
	if time.Since(time.Unix(0, t.lost.Load())) > forgetting {
		return false
	}
	time.Sleep(forgetting / 20)
	return true
}

// keep takes over fd, unless n has such a descriptor already.
func (n *node) keep(fd int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kept != nil {
		return false
	}
	n.kept = &keptFile{fd: fd}
	n.tree.mu.Lock()
	defer n.tree.mu.Unlock()
	n.tree.kept[n.kept] = struct{}{}
	return true
}

// OnForget is called when the kernel does not know n any more.
func (n *node) OnForget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.kept == nil {
		return
	}
	n.tree.mu.Lock()
	defer n.tree.mu.Unlock()
	if _, open := n.tree.kept[n.kept]; open {
		delete(n.tree.kept, n.kept)
		unix.Close(n.kept.fd) // O_PATH: nothing was written through it
	}
	n.kept = nil
}

// reopen opens a file without a name.
func (n *node) reopen(flags int) (int, unix.Statx_t, error) {
	fd := -1
	known, err := n.withKnown(func(known int) (err error) {
		fd, err = unix.Open(procPath(known), flags|unix.O_CLOEXEC, 0)
		return err
	})
	if !known {
		err = syscall.ESTALE
	}
	if err != nil {
		return -1, unix.Statx_t{}, err
	}
	return n.opened(fd)
}
