package history

import (
	"context"
	"errors"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

const (
	readmeName = "README.txt"
	logName    = "log"
	latestName = "latest"
	// listedCommits is how many of the newest commits a listing shows.
	listedCommits = 100

	dirMode  = syscall.S_IFDIR | 0o555
	fileMode = syscall.S_IFREG | 0o444
)

// dirNode is the root, a client, or a directory on the way to one; a client may
// be on the way to others.
type dirNode struct {
	gofs.Inode
	tree *tree
	path string // "" is the root
}

var (
	_ gofs.NodeLookuper  = (*dirNode)(nil)
	_ gofs.NodeReaddirer = (*dirNode)(nil)
	_ gofs.NodeGetattrer = (*dirNode)(nil)
)

func (d *dirNode) child(name string) string {
	if d.path == "" {
		return name
	}
	return d.path + "/" + name
}

func (d *dirNode) Getattr(ctx context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	setAttr(&out.Attr, dirMode, 0, d.tree.changed(ctx, d.path))
	if d.path == "" {
		d.tree.door.setAttr(&out.Attr)
	}
	return 0
}

// changed returns when a directory changed last, without asking the store: the
// commit known as a client's newest, for other directories the time of mounting.
func (t *tree) changed(ctx context.Context, path string) wal.Time {
	t.mu.Lock()
	c := t.opened[path]
	t.mu.Unlock()
	if c != nil && c.looked.Load() {
		if last, ok, err := c.newest(context.WithoutCancel(ctx)); err == nil && ok {
			return last.Time
		}
	}
	return t.mounted
}

// Lookup finds an instant, the log, or what else lies below.
func (d *dirNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	if d.path == "" && name == readmeName {
		return d.readme(ctx, out), 0
	}
	if inode, err := d.lookupInClient(ctx, name, out); err == nil {
		return inode, 0
	} else if !absent(err) {
		return nil, d.tree.failed("looking up "+d.child(name), err)
	}
	exists, err := await(ctx, func(ctx context.Context) (bool, error) { return d.tree.exists(ctx, d.child(name)) })
	if err != nil {
		return nil, d.tree.failed("looking up "+d.child(name), err)
	}
	if !exists {
		notYet(out)
		return nil, syscall.ENOENT
	}
	child := &dirNode{tree: d.tree, path: d.child(name)}
	setAttr(&out.Attr, dirMode, 0, d.tree.changed(ctx, child.path))
	out.SetEntryTimeout(time.Second)
	return d.NewInode(ctx, child, identity(syscall.S_IFDIR, "dir", child.path)), 0
}

// lookupInClient finds what d has as a client. The error is absent when
// d is none, or name is nothing in it.
func (d *dirNode) lookupInClient(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, error) {
	instant, parseErr := generations.ParseInstant(name, d.tree.now())
	if parseErr != nil && name != logName {
		return nil, generations.ErrNoInstant
	}
	c, err := await(ctx, func(ctx context.Context) (*client, error) { return d.tree.client(ctx, d.path) })
	if err != nil {
		return nil, err
	}
	if name == logName {
		return d.log(ctx, c, out)
	}
	r, err := await(ctx, func(ctx context.Context) (resolved, error) { return c.resolve(ctx, instant) })
	if err != nil {
		return nil, err
	}
	out.SetEntryTimeout(r.timeout)
	setAttr(&out.Attr, dirMode, 0, r.plan.Txn.Time)
	out.SetAttrTimeout(nameTimeout)
	node := &instantNode{client: c, plan: r.plan}
	if instant.Moving() {
		node.moving = name
	}
	return d.NewInode(ctx, node, node.identity(syscall.S_IFDIR, "instant", name, r.plan.View())), nil
}

// Readdir lists what can be found here, of the instants latest, the snapshots
// and the newest commits.
func (d *dirNode) Readdir(ctx context.Context) (gofs.DirStream, syscall.Errno) {
	entries, err := await(ctx, func(ctx context.Context) ([]fuse.DirEntry, error) { return d.list(ctx) })
	if err != nil {
		return nil, d.tree.failed("listing "+d.path, err)
	}
	return gofs.NewListDirStream(entries), 0
}

func (d *dirNode) list(ctx context.Context) ([]fuse.DirEntry, error) {
	var entries []fuse.DirEntry
	listed := make(map[string]bool)
	add := func(mode uint32, name string) {
		if !listed[name] {
			listed[name] = true
			entries = append(entries, fuse.DirEntry{Name: name, Mode: mode})
		}
	}
	if d.path == "" {
		add(syscall.S_IFREG, readmeName)
	}
	c, err := d.tree.client(ctx, d.path)
	switch {
	case err == nil:
		names, err := c.instants(ctx)
		if err != nil {
			return nil, err
		}
		add(syscall.S_IFREG, logName)
		for _, name := range names {
			add(syscall.S_IFDIR, name)
		}
	case !errors.Is(err, generations.ErrNoClient):
		return nil, err
	}
	below, err := d.tree.clients.below(ctx, d.path)
	if err != nil {
		return nil, err
	}
	for _, name := range below {
		add(syscall.S_IFDIR, name)
	}
	return entries, nil
}

// instants returns the names a listing shows: latest, the snapshots and the
// newest commits.
func (c *client) instants(ctx context.Context) ([]string, error) {
	if err := c.refresh(ctx); err != nil {
		return nil, err
	}
	recent, err := c.timeline.Recent(ctx, listedCommits)
	if err != nil || len(recent) == 0 {
		return nil, err
	}
	c.looked.Store(true)
	names := []string{latestName}
	all, err := c.timeline.Generations(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range all {
		snapshots, err := c.timeline.Snapshots(ctx, g.ID)
		if err != nil {
			return nil, err
		}
		for _, s := range snapshots {
			if !s.Info.Fuzzy && g.Span().Has(s.First) { // others are of no instant
				names = append(names, s.Info.Last.Time.String())
			}
		}
	}
	for _, txn := range recent {
		names = append(names, txn.Time.String())
	}
	return names, nil
}
