package snapshot

import (
	"cmp"
	"context"
	"runtime"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// A copy goes through four hands, each ahead of the next:
//
//	planner   which groups the next windows need, and which ranges those lie in
//	requests  the ranges, many at a time, as far ahead as there is memory
//	fillers   one window each: groups decoded, pages put in place and summed
//	caller    the windows, in order
//
// So what a copy takes is what the slowest of network, processors and disk
// takes, and not their sum.

const (
	// windowSize is how much of a database is put together at a time, in bytes.
	windowSize = 4 << 20
	// windowsMemory bounds the memory of windows that are being put together or
	// wait to be written, in bytes.
	windowsMemory = 32 << 20
	// keptGroups is how many decoded groups are kept because a later window may
	// want them too (about 64 KiB each).
	keptGroups = 256
)

// copier copies a view once.
type copier struct {
	v      *View
	supply *supply
	// groups has those that lie at the edge of a window, by source and number.
	groups   *lru.Cache[groupID, *sharedGroup]
	fillers  int
	size     int // bytes of a window
	progress *progress
	// todo and order both have each window, in order: the one for the fillers,
	// the other for the caller.
	todo, order chan *window
	buffers     chan []byte // of windows; nil ones have not been made yet
}

// progress is how far a copy is.
type progress struct {
	next wal.Pgno // page that the caller gets next
	sum  wal.Checksum
}

// each copies v through do, by as many copiers as it takes: another one goes on when
// objects of the view have gone.
func (v *View) each(ctx context.Context, copiers func(*View) *copier, do func(first wal.Pgno, pages []byte) error) error {
	at := progress{next: 1}
	var refused error
	watched := func(first wal.Pgno, pages []byte) error {
		refused = do(first, pages)
		return refused
	}
	got := func() int64 { return int64(at.next) }
	err := v.lasting(ctx, got, func(now *View) error {
		c := copiers(now)
		c.progress = &at
		err := c.run(ctx, watched)
		if refused != nil {
			return nil // told below: no object is concerned, whatever it matches
		}
		return err
	})
	return cmp.Or(refused, err)
}

// newCopier makes a copier that decodes at most fillers windows at a time, 0
// meaning one for each processor.
func newCopier(v *View, fillers int) *copier {
	if fillers <= 0 {
		fillers = runtime.GOMAXPROCS(0)
	}
	groups, err := lru.New[groupID, *sharedGroup](keptGroups)
	if err != nil {
		panic("snapshot: " + err.Error()) // the size is constant
	}
	buffers := fillers + 2 // one is being written, one waits for it
	c := &copier{
		v: v, groups: groups, supply: newSupply(v.sources), fillers: fillers,
		progress: &progress{next: 1},
		size:     max(v.pageSize, min(windowSize, windowsMemory/buffers)),
		todo:     make(chan *window, 64),
		order:    make(chan *window, 64),
		buffers:  make(chan []byte, buffers),
	}
	for range buffers {
		c.buffers <- nil
	}
	return c
}

// run calls do with all pages in order, many at a time, first being the number of
// the first. At the end it verifies the checksum.
func (c *copier) run(ctx context.Context, do func(first wal.Pgno, pages []byte) error) error {
	g, ctx := errgroup.WithContext(ctx)
	defer c.supply.end()
	first := c.progress.next
	g.Go(func() error { return c.plan(ctx, first) })
	for range c.fillers {
		g.Go(func() error { return c.fillAll(ctx) })
	}
	if err := c.deliver(ctx, do); err != nil {
		g.Go(func() error { return err }) // ends the others
	}
	if first := g.Wait(); first != nil {
		return first
	}
	return c.v.verify(c.progress.sum)
}

// plan plans window after window, from the page first on, and hands each on when
// what it needs has been asked for.
func (c *copier) plan(ctx context.Context, first wal.Pgno) error {
	defer close(c.todo)
	defer close(c.order)
	ahead := foresight{v: c.v, next: first}
	defer ahead.asked.Wait()
	var batch []*window
	for first != 0 {
		if c.v.closed.Load() {
			return errClosed
		}
		ahead.reach(first)
		w, err := c.window(first)
		if err != nil {
			return err
		}
		if w != nil {
			batch = append(batch, w)
			c.supply.add(w)
			first = w.next
		} else {
			first = 0
		}
		if first != 0 && len(batch) < cap(c.order) && !c.supply.enough() {
			continue
		}
		if err := c.supply.send(ctx); err != nil {
			return err
		}
		for _, w := range batch {
			if err := hand(ctx, c.order, w); err != nil {
				return err
			}
			if err := hand(ctx, c.todo, w); err != nil {
				return err
			}
		}
		batch = batch[:0]
	}
	return nil
}

// hand sends w unless ctx ends.
func hand(ctx context.Context, to chan<- *window, w *window) error {
	select {
	case to <- w:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fillAll fills windows until none is left.
func (c *copier) fillAll(ctx context.Context) error {
	f := &filler{copier: c}
	for {
		// With the memory first, the windows that have memory are always the
		// first ones, and the caller gets on.
		var buf []byte
		select {
		case buf = <-c.buffers:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		w, ok := <-c.todo
		if !ok {
			return nil
		}
		if buf == nil {
			buf = make([]byte, min(int64(c.size), c.v.Size())+pack.DecodeSlack)
		}
		w.memory = buf
		if err := f.fill(ctx, w); err != nil {
			return err
		}
		c.supply.release(w)
		close(w.filled)
	}
}

// deliver calls do with each window, in order, and notes the progress.
func (c *copier) deliver(ctx context.Context, do func(first wal.Pgno, pages []byte) error) error {
	for w := range c.order {
		select {
		case <-w.filled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := do(w.first, w.bytes); err != nil {
			return err
		}
		c.progress.next = w.last + 1
		c.progress.sum ^= w.sum
		c.buffers <- w.memory
	}
	return ctx.Err()
}
