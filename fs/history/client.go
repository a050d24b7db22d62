package history

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
)

// client is one database's past.
type client struct {
	tree     *tree
	name     string
	timeline *generations.Timeline

	looked  atomic.Bool   // the newest transaction has been asked for, so it is kept
	asked   atomic.Uint64 // refreshes asked for
	mu      sync.Mutex    // held while refreshing
	covered uint64        // those of asked that a refresh has answered
	began   time.Time     // when the last refresh did
}

// storeAge is how old the list of stored objects may be where nobody tells us
// of commits: "latest" is looked up many times for every time it is used.
const storeAge = 500 * time.Millisecond

// refresh learns of the commits made before it was called. Those who call it at
// the same time share the work.
func (c *client) refresh(ctx context.Context) error {
	ticket := c.asked.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.covered >= ticket {
		return nil // a refresh began after we had asked
	}
	if c.tree.Refresh == nil && time.Since(c.began) < storeAge {
		return nil
	}
	upto, began := c.asked.Load(), time.Now()
	refresh := c.timeline.Refresh
	if c.tree.Refresh != nil {
		own, err := c.tree.Refresh(c.name)
		if err != nil {
			return fmt.Errorf("saving what is committed in %s: %w", c.name, err)
		}
		if own {
			refresh = c.timeline.RefreshOwn
		}
	}
	if err := refresh(ctx); err != nil {
		return err
	}
	c.covered, c.began = upto, began
	return nil
}

// newest returns the newest transaction known, false when none is.
func (c *client) newest(ctx context.Context) (wal.TxnInfo, bool, error) {
	recent, err := c.timeline.Recent(ctx, 1)
	if err != nil || len(recent) == 0 {
		return wal.TxnInfo{}, false, err
	}
	c.looked.Store(true)
	return recent[0], true, nil
}

// settled reports whether no commit to come can change what i means.
func (c *client) settled(ctx context.Context, i generations.Instant) (bool, error) {
	if i.IsLatest() {
		return false, nil
	}
	at, isTime := i.Time()
	if !isTime {
		_, err := c.timeline.Find(ctx, i, c.tree.now())
		if errors.Is(err, generations.ErrNoInstant) {
			return false, nil
		}
		return err == nil, err
	}
	if c.timeline.Settled(at) {
		return true, nil
	}
	last, ok, err := c.newest(ctx)
	return ok && last.Time >= at, err
}

// resolved is what a name in a client means.
type resolved struct {
	plan    generations.Plan // without objects
	timeout time.Duration    // for which the kernel may take the name for it
}

// resolve returns what an instant means. The error is absent when it means
// nothing.
func (c *client) resolve(ctx context.Context, i generations.Instant) (r resolved, err error) {
	now := c.tree.now()
	at, isTime := i.Time()
	if isTime {
		// Most often what is known will do. Asked first, it has all that it takes
		// fetched at once; so the answer is not looked at yet.
		if _, err := c.timeline.Find(ctx, i, now); err != nil && !absent(err) {
			return r, err
		}
	}
	settled, err := c.settled(ctx, i)
	if err != nil {
		return r, err
	}
	if !settled && !(isTime && at > now) {
		if err := c.refresh(ctx); err != nil {
			return r, err
		}
		if settled, err = c.settled(ctx, i); err != nil {
			return r, err
		}
	}
	r.plan, err = c.timeline.Find(ctx, i, now)
	if err == nil && i.IsLatest() {
		c.looked.Store(true)
	}
	if err == nil && settled && !i.Moving() {
		r.timeout = indexTimeout
		if isTime {
			r.timeout = nameTimeout
		}
	}
	return r, err
}

// open returns the view that p, which Find has returned, shows. Which objects
// make it up is found out now: some may have been shipped or merged since the
// name was looked up, and most of the names that are looked up are not opened.
func (c *client) open(ctx context.Context, p generations.Plan) (*snapshot.View, error) {
	return c.timeline.Open(ctx, p, c.tree.Cache.View)
}

// absent reports whether err says that a name means nothing, in contrast to a
// failure to find out.
func absent(err error) bool {
	return errors.Is(err, generations.ErrNoClient) || errors.Is(err, generations.ErrNoGeneration) || errors.Is(err, generations.ErrNoInstant)
}
