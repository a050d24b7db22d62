package generations

import (
	"context"
	"sync"
)

// queue does jobs in the background, one at a time, in the order in which they
// came. It has a goroutine only while there is something to do. When its context
// has ended, what is left is forgotten.
type queue[T any] struct {
	ctx context.Context
	do  func(T)

	work    sync.WaitGroup
	mu      sync.Mutex
	pending []T
	busy    bool
	idle    chan struct{} // closed when not busy any more; nil when nobody waits
}

func newQueue[T any](ctx context.Context, do func(T)) *queue[T] {
	return &queue[T]{ctx: ctx, do: do}
}

// add has jobs done. It does not wait, so a job may add others.
func (q *queue[T]) add(jobs ...T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ctx.Err() != nil {
		return
	}
	q.pending = append(q.pending, jobs...)
	if len(q.pending) > 0 && !q.busy {
		q.busy = true
		q.work.Go(q.run)
	}
}

func (q *queue[T]) run() {
	for {
		job, ok := q.next()
		if !ok {
			return
		}
		q.do(job)
	}
}

// next returns the next job, or tells that there is none.
func (q *queue[T]) next() (job T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) == 0 || q.ctx.Err() != nil {
		q.pending, q.busy = nil, false
		if q.idle != nil {
			close(q.idle)
			q.idle = nil
		}
		return job, false
	}
	job, q.pending = q.pending[0], q.pending[1:]
	return job, true
}

// settled returns when nothing is left to do, or when ctx ends.
func (q *queue[T]) settled(ctx context.Context) error {
	q.mu.Lock()
	if !q.busy {
		q.mu.Unlock()
		return nil
	}
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle := q.idle
	q.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait returns when nothing is being done. The context of the queue has ended.
func (q *queue[T]) wait() { q.work.Wait() }
