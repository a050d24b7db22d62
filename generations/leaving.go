package generations

import (
	"context"
	"time"
)

// leaving is what a command is to delete after the grace.
type leaving struct {
	store    Store
	grace    time.Duration
	replaced []replaced // in the order of due
}

func (c *leaving) replace(run []member) {
	for _, p := range run {
		c.leave(p.Object)
	}
}

func (c *leaving) leave(o Object) {
	c.replaced = append(c.replaced, replaced{o, time.Now().Add(c.grace)})
}

// Replaced returns how many objects Delete would delete, and how long it would
// wait for the grace to end.
func (c *leaving) Replaced() (n int, wait time.Duration) {
	if n = len(c.replaced); n > 0 {
		wait = max(time.Until(c.replaced[n-1].due), 0)
	}
	return n, wait
}

// Delete deletes what others have taken the place of, when the grace is over. An
// error matches ErrDenied when it may not; nothing is wrong then with what the store
// has.
func (c *leaving) Delete(ctx context.Context) error {
	for len(c.replaced) > 0 {
		next := c.replaced[0]
		if err := pause(ctx, time.Until(next.due)); err != nil {
			return err
		}
		if err := c.store.Delete(ctx, next.Key()); err != nil {
			return err
		}
		c.replaced = c.replaced[1:]
	}
	return nil
}
