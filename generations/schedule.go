package generations

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// schedule decides whose turn it is. It has one goroutine, and one more for
// each turn under way; a database without work costs nothing. Turns are given
// in the order in which databases became ready, and a turn puts one object, so
// a busy database cannot starve the others.
type schedule struct {
	limit int                                  // turns at the same time
	take  func(ctx context.Context, w *Writer) // one turn
	next  func(w *Writer, hurry bool) (time.Time, bool)

	wake chan struct{} // of capacity 1: look at the queues again

	mu      sync.Mutex
	ready   []*Writer
	waiting waitList
	running int
	hurry   int           // Flush calls under way
	turned  chan struct{} // closed at the end of the next turn; nil when nobody waits
}

// turn is what the schedule keeps in a Writer. The mutex of the schedule guards it.
type turn struct {
	state turnState
	due   time.Time
	index int // in waiting
}

type turnState byte

const (
	turnIdle turnState = iota
	turnWaiting
	turnReady
	turnRunning
)

// notify tells that w may have work.
func (s *schedule) notify(w *Writer) {
	s.mu.Lock()
	if w.turn.state == turnIdle {
		s.place(w)
	}
	s.mu.Unlock()
}

// hasten tells that w may have work before its turn would be due.
func (s *schedule) hasten(w *Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch w.turn.state {
	case turnWaiting:
		heap.Remove(&s.waiting, w.turn.index)
		s.place(w)
	case turnIdle:
		s.place(w)
	}
}

// place puts w where it belongs. The caller holds mu; w is in no queue.
func (s *schedule) place(w *Writer) {
	due, ok := s.next(w, s.hurry > 0)
	switch {
	case !ok:
		w.turn.state = turnIdle
		return
	case !due.After(time.Now()):
		w.turn.state = turnReady
		s.ready = append(s.ready, w)
	default:
		w.turn.state, w.turn.due = turnWaiting, due
		heap.Push(&s.waiting, w)
	}
	s.nudge()
}

func (s *schedule) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// run gives turns until ctx ends, and returns when the last one has ended.
func (s *schedule) run(ctx context.Context) {
	var turns sync.WaitGroup
	defer turns.Wait()
	for {
		var timer <-chan time.Time
		if wait, ok := s.start(ctx, &turns); ok {
			timer = time.After(wait)
		}
		select {
		case <-s.wake:
		case <-timer:
		case <-ctx.Done():
			return
		}
	}
}

// start begins the turns that can begin, and returns how long to wait for the
// next one that is due.
func (s *schedule) start(ctx context.Context, turns *sync.WaitGroup) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for len(s.waiting) > 0 && !s.waiting[0].turn.due.After(now) {
		w := heap.Pop(&s.waiting).(*Writer)
		w.turn.state = turnReady
		s.ready = append(s.ready, w)
	}
	for len(s.ready) > 0 && s.running < s.limit && ctx.Err() == nil {
		w := s.ready[0]
		s.ready[0] = nil
		s.ready = s.ready[1:]
		w.turn.state = turnRunning
		s.running++
		turns.Go(func() {
			s.take(ctx, w)
			s.finish(w)
		})
	}
	if len(s.waiting) == 0 {
		return 0, false
	}
	return s.waiting[0].turn.due.Sub(now), true
}

// finish ends a turn.
func (s *schedule) finish(w *Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	s.place(w)
	s.nudge()
	if s.turned != nil {
		close(s.turned)
		s.turned = nil
	}
}

// expedite makes everything that waits ready at once and, until the returned
// function is called, intervals zero.
func (s *schedule) expedite() (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hurry++
	for _, w := range s.waiting {
		w.turn.state = turnReady
		s.ready = append(s.ready, w)
	}
	s.waiting = nil
	s.nudge()
	return func() {
		s.mu.Lock()
		s.hurry--
		s.mu.Unlock()
	}
}

// afterTurn returns a channel that is closed when the next turn has ended.
func (s *schedule) afterTurn() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turned == nil {
		s.turned = make(chan struct{})
	}
	return s.turned
}

// waitList is a heap by due.
type waitList []*Writer

func (l waitList) Len() int           { return len(l) }
func (l waitList) Less(i, j int) bool { return l[i].turn.due.Before(l[j].turn.due) }
func (l waitList) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].turn.index, l[j].turn.index = i, j
}

func (l *waitList) Push(x any) {
	w := x.(*Writer)
	w.turn.index = len(*l)
	*l = append(*l, w)
}

func (l *waitList) Pop() any {
	old := *l
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*l = old[:len(old)-1]
	return w
}
