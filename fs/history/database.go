package history

import (
	"context"
	"fmt"
	"io"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/snapshot"
)

// databaseNode is a database as of one transaction, whatever path leads to it.
type databaseNode struct {
	gofs.Inode
	client *client
	plan   generations.Plan

	mu    sync.Mutex
	files int       // open
	view  *openView // there while files are open
}

// openView is a view that is closed when the last of those who use it has let
// go: the node while it has open files, and the reads under way, which may go on
// when whoever asked has gone.
type openView struct {
	io.ReaderAt
	view  *snapshot.View
	users int // databaseNode.mu
}

var (
	_ gofs.NodeGetattrer = (*databaseNode)(nil)
	_ gofs.NodeOpener    = (*databaseNode)(nil)
	_ gofs.NodeReader    = (*databaseNode)(nil)
	_ gofs.NodeReleaser  = (*databaseNode)(nil)
)

func (d *databaseNode) setAttr(a *fuse.Attr) {
	setAttr(a, fileMode, int64(d.plan.Txn.Size)*int64(d.plan.PageSize), d.plan.Txn.Time)
}

func (d *databaseNode) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	d.setAttr(&out.Attr)
	out.SetTimeout(nameTimeout)
	return 0
}

// name is what messages call d.
func (d *databaseNode) name() string {
	return fmt.Sprintf("%s of %s", d.plan.File, d.plan.View())
}

// Open lets the kernel keep what it has read before: it is still true.
func (d *databaseNode) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return nil, 0, syscall.EROFS
	}
	if !d.addFile(nil) {
		view, err := await(ctx, func(ctx context.Context) (*snapshot.View, error) { return d.client.open(ctx, d.plan) })
		if err != nil {
			return nil, 0, d.client.tree.failed("opening "+d.name(), err)
		}
		d.addFile(view)
	}
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

// addFile counts one more open file and reports whether there is a view for
// it. Of two who bring one at the same time, the second was not needed.
func (d *databaseNode) addFile(brought *snapshot.View) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.view == nil && brought == nil:
		return false
	case d.view == nil:
		d.view = newOpenView(brought)
	case brought != nil:
		brought.Close() // reads nothing and owns nothing yet
	}
	d.files++
	return true
}

func newOpenView(v *snapshot.View) *openView {
	return &openView{ReaderAt: snapshot.ReadOnly(v), view: v, users: 1}
}

// Release ends the use of an open file.
func (d *databaseNode) Release(context.Context, gofs.FileHandle) syscall.Errno {
	d.mu.Lock()
	d.files--
	var last *openView
	if d.files == 0 {
		last, d.view = d.view, nil
	}
	d.mu.Unlock()
	if last != nil {
		d.letGo(last)
	}
	return 0
}

// use returns the view for one read, which ends with letGo.
func (d *databaseNode) use() *openView {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.view.users++
	return d.view
}

func (d *databaseNode) letGo(v *openView) {
	d.mu.Lock()
	v.users--
	unused := v.users == 0
	d.mu.Unlock()
	if unused {
		if err := v.view.Close(); err != nil {
			d.client.tree.report("closing "+d.name(), err)
		}
	}
}

// Read reads from the view. The read goes on by itself when the application is
// interrupted, so it has a buffer of its own.
func (d *databaseNode) Read(ctx context.Context, _ gofs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	v := d.use()
	r, err := await(ctx, func(context.Context) (*result, error) {
		defer d.letGo(v)
		r := d.client.tree.buffer(len(dest))
		var err error
		r.n, err = v.ReadAt(*r.buf, off)
		if err != nil && err != io.EOF {
			r.Done()
			return nil, err
		}
		return r, nil
	})
	if err != nil {
		return nil, d.client.tree.failed("reading "+d.name(), err)
	}
	return r, 0
}
