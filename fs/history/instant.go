package history

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/walback/walback/generations"
)

// instantNode is the directory of one instant. It never changes: when its name
// comes to mean another transaction, the name leads to another node.
type instantNode struct {
	gofs.Inode
	client *client
	plan   generations.Plan
}

var (
	_ gofs.NodeLookuper  = (*instantNode)(nil)
	_ gofs.NodeReaddirer = (*instantNode)(nil)
	_ gofs.NodeGetattrer = (*instantNode)(nil)
)

func (n *instantNode) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	setAttr(&out.Attr, dirMode, 0, n.plan.Txn.Time)
	out.SetTimeout(nameTimeout)
	return 0
}

// Lookup finds the database. SQLite also looks for its journal and its log: that
// they are not there is known without asking anybody, and the kernel remembers.
func (n *instantNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	if name != n.plan.File {
		return nil, syscall.ENOENT
	}
	node := &databaseNode{client: n.client, plan: n.plan}
	node.setAttr(&out.Attr)
	out.SetAttrTimeout(nameTimeout)
	out.SetEntryTimeout(nameTimeout)
	return n.NewInode(ctx, node, n.databaseIdentity()), 0
}

// databaseIdentity is the same for every path of a transaction.
func (n *instantNode) databaseIdentity() gofs.StableAttr {
	return identity(syscall.S_IFREG, "database", n.plan.View())
}

func (n *instantNode) Readdir(context.Context) (gofs.DirStream, syscall.Errno) {
	return gofs.NewListDirStream([]fuse.DirEntry{{
		Name: n.plan.File,
		Mode: syscall.S_IFREG,
		Ino:  n.databaseIdentity().Ino,
	}}), 0
}
