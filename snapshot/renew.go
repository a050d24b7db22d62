package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
)

// renewal is what lets a view outlive the objects that it reads: segments are
// merged into others, and deleted some time later.
type renewal struct {
	mu     sync.Mutex                           // held while heir is made
	onGone func(context.Context) (*View, error) // nil: what has gone is an error; guarded by mu
	heir   atomic.Pointer[View]                 // reads in place of the view, once there is one
}

// mostRenewals bounds how often in a row a read begins anew without getting on.
const mostRenewals = 5

// OnGone has f called when an object of v has gone (reading it failed with
// fs.ErrNotExist). It returns another view of the same transaction; v goes on with
// that, and closes it.
func (v *View) OnGone(f func(context.Context) (*View, error)) {
	v.renewal.mu.Lock()
	defer v.renewal.mu.Unlock()
	v.renewal.onGone = f
}

// current returns the view that is read in place of v: v itself, at first.
func (v *View) current() *View {
	for heir := v; heir != nil; heir = v.renewal.heir.Load() {
		v = heir
	}
	return v
}

// renew finds what is to be read in place of v, of which something has gone; gone
// is the error that said so, and is returned where nothing can be.
func (v *View) renew(ctx context.Context, gone error) error {
	r := &v.renewal
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heir.Load() != nil {
		return nil // somebody else has been here
	}
	if r.onGone == nil || v.closed.Load() {
		return gone
	}
	heir, err := r.onGone(ctx)
	if err != nil {
		return errors.Join(gone, err)
	}
	if heir.at != v.at || heir.pageSize != v.pageSize {
		return errors.Join(gone, fmt.Errorf("its place is taken by %+v, not %+v", heir.at, v.at), heir.Close())
	}
	heir.OnGone(r.onGone)
	v.OnClose(heir.Close)
	r.heir.Store(heir)
	return nil
}

// lasting calls read with the view to read until no object has gone under it, or
// it does not get on: got tells how far it is.
func (v *View) lasting(ctx context.Context, got func() int64, read func(*View) error) error {
	for tries, at := 0, got(); ; tries++ {
		c := v.current()
		err := read(c)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if now := got(); now > at {
			tries, at = 0, now
		}
		if tries == mostRenewals {
			return err
		}
		if err := c.renew(ctx, err); err != nil {
			return err
		}
	}
}
