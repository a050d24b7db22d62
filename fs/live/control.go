package live

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/walback/walback/fs"
)

// controlDir is the name, at the root of the mount, of a directory that is not
// listed. Underneath, in the backing directory, lie spool and state; through
// the mount it shows the control files instead.
const controlDir = ".walback"

// hides reports whether name in the directory n is the hidden one.
func (n *node) hides(name string) bool { return name == controlDir && n.IsRoot() }

// controls is the hidden directory as the mount shows it.
type controls struct {
	gofs.Inode
	files  map[string]func() ([]byte, error)
	logger *slog.Logger
}

var (
	_ gofs.NodeOnAdder   = (*controls)(nil)
	_ gofs.NodeGetattrer = (*controls)(nil)
	_ gofs.NodeUnlinker  = (*controls)(nil)
	_ gofs.NodeRmdirer   = (*controls)(nil)
)

// OnAdd puts the files in; they stay as long as the mount.
func (d *controls) OnAdd(ctx context.Context) {
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		f := &controlFile{name: name, read: d.files[name], logger: d.logger}
		d.AddChild(name, d.NewPersistentInode(ctx, f, gofs.StableAttr{Mode: syscall.S_IFREG}), true)
	}
}

// lookup answers for the hidden name.
func (d *controls) lookup(ctx context.Context, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	controlAttr(&out.Attr, syscall.S_IFDIR|0555)
	return d.EmbeddedInode(), 0
}

func (d *controls) Getattr(ctx context.Context, f gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	controlAttr(&out.Attr, syscall.S_IFDIR|0555)
	return 0
}

// Unlink refuses; go-fuse would take a missing method for success.
func (d *controls) Unlink(ctx context.Context, name string) syscall.Errno { return syscall.EPERM }

// Rmdir refuses like Unlink.
func (d *controls) Rmdir(ctx context.Context, name string) syscall.Errno { return syscall.EPERM }

// controlFile is a read-only file whose content is made when it is opened. Like
// those of /proc it has no size.
type controlFile struct {
	gofs.Inode
	name   string
	read   func() ([]byte, error)
	logger *slog.Logger
}

var (
	_ gofs.NodeGetattrer = (*controlFile)(nil)
	_ gofs.NodeOpener    = (*controlFile)(nil)
	_ gofs.FileReader    = controlContent(nil)
)

func (c *controlFile) Getattr(ctx context.Context, f gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	controlAttr(&out.Attr, syscall.S_IFREG|0444)
	return 0
}

func (c *controlFile) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return nil, 0, syscall.EPERM
	}
	b, err := c.read()
	if err != nil {
		c.logger.Error("control file", "name", c.name, "error", err)
		return nil, 0, fs.Errno(err)
	}
	// Without the page cache the kernel reads up to the end of the content, not
	// to the size it was told.
	return controlContent(b), fuse.FOPEN_DIRECT_IO, 0
}

// controlContent is a control file as one application has it open.
type controlContent []byte

func (b controlContent) Read(ctx context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	rest := b[min(off, int64(len(b))):]
	return fuse.ReadResultData(rest[:min(len(rest), len(buf))]), 0
}

func controlAttr(out *fuse.Attr, mode uint32) {
	out.Mode = mode
	out.Nlink = 1
	out.Uid = uint32(os.Geteuid())
	out.Gid = uint32(os.Getegid())
}
