package history

import (
	"context"
	_ "embed"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

//go:embed README.txt
var readmeText []byte

// readmeNode explains the tree to those who find it.
type readmeNode struct {
	gofs.Inode
	tree *tree
}

var (
	_ gofs.NodeGetattrer = (*readmeNode)(nil)
	_ gofs.NodeOpener    = (*readmeNode)(nil)
	_ gofs.NodeReader    = (*readmeNode)(nil)
)

// readme returns the node of README.txt in the root d.
func (d *dirNode) readme(ctx context.Context, out *fuse.EntryOut) *gofs.Inode {
	node := &readmeNode{tree: d.tree}
	node.setAttr(&out.Attr)
	out.SetAttrTimeout(nameTimeout)
	out.SetEntryTimeout(nameTimeout)
	return d.NewInode(ctx, node, identity(syscall.S_IFREG, "readme"))
}

func (r *readmeNode) setAttr(a *fuse.Attr) {
	setAttr(a, fileMode, int64(len(readmeText)), r.tree.mounted)
}

func (r *readmeNode) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	r.setAttr(&out.Attr)
	out.SetTimeout(nameTimeout)
	return 0
}

func (r *readmeNode) Open(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (r *readmeNode) Read(_ context.Context, _ gofs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	at := min(off, int64(len(readmeText)))
	return fuse.ReadResultData(readmeText[at:min(at+int64(len(dest)), int64(len(readmeText)))]), 0
}
