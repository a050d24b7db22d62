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
	// moving is the name that led here if it will lead to other nodes as time
	// passes, such as "latest", and empty otherwise.
	moving string
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

// databaseIdentity is the same for every path of a transaction, but for those
// that lead through a moving name.
func (n *instantNode) databaseIdentity() gofs.StableAttr {
	return n.identity(syscall.S_IFREG, "database", n.plan.View())
}

// identity is the identity that belongs to words. Through a moving name the
// inode number belongs to the name, and only the generation to the words: they
// are nodes of their own, and yet cp finds that the file it has opened is the
// one it has looked at, when a commit came between.
func (n *instantNode) identity(mode uint32, words ...string) gofs.StableAttr {
	a := identity(mode, words...)
	if n.moving != "" {
		a.Ino = identity(mode, "moving", n.plan.Client, n.moving).Ino
		a.Gen = identity(mode, append(words, n.moving)...).Gen
	}
	return a
}

func (n *instantNode) Readdir(context.Context) (gofs.DirStream, syscall.Errno) {
	return gofs.NewListDirStream([]fuse.DirEntry{{
		Name: n.plan.File,
		Mode: syscall.S_IFREG,
		Ino:  n.databaseIdentity().Ino,
	}}), 0
}
