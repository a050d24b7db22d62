package generations

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walback/walback/wal"
)

// startSchedule runs a schedule whose turns are played: each takes everything
// that is queued and puts it at once, unless down.
func startSchedule(t *testing.T, limit int, turn func(*Writer)) *schedule {
	t.Helper()
	s := &schedule{
		limit: limit,
		take:  func(_ context.Context, w *Writer) { turn(w) },
		next:  (*Writer).due,
		wake:  make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return s
}

// begun returns the Writer of a generation that has begun to be shipped.
func begun(interval time.Duration) *Writer {
	return &Writer{
		shipper:  &Shipper{options: ShipperOptions{Interval: interval}},
		lineages: []*lineage{{progress: progress{ID: 1, Manifest: true, Snapshot: 1}}},
	}
}

func (w *Writer) enqueue(s *schedule) {
	w.mu.Lock()
	w.queue = append(w.queue, &wal.Txn{})
	w.mu.Unlock()
	s.notify(w)
}

// An isolated commit is sent at once, a stream of them in segments that become
// ever larger until there is one per interval, the last one too, and then nothing
// happens any more.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		total := 0
		s := startSchedule(t, 1, func(w *Writer) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.pace.Begin(time.Now(), w.shipper.options.Interval)
			if len(w.queue) == 0 {
				t.Error("a turn without a commit")
			}
			at, total = append(at, time.Since(start)), total+len(w.queue)
			w.queue = nil
		})
		w := begun(time.Second)
		const sec = time.Second
		want := []time.Duration{3 * sec, 6 * sec, 9 * sec}
		for range want {
			time.Sleep(3 * sec)
			w.enqueue(s)
		}
		synctest.Wait()
		if !slices.Equal(at, want) {
			t.Fatalf("isolated commits were put at %v, want %v", at, want)
		}
		time.Sleep(time.Hour - 9*sec)
		at, total = nil, 0
		const commits = 120_000 // ten minutes of load
		for range commits {
			w.enqueue(s)
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(sec)
		synctest.Wait()
		if total != commits {
			t.Errorf("put %d commits, want %d", total, commits)
		}
		between := func(from, to time.Duration) (n int) {
			for _, t := range at {
				if t -= time.Hour; from <= t && t < to {
					n++
				}
			}
			return n
		}
		for _, c := range []struct {
			from, to    time.Duration
			least, most int
		}{
			{0, sec, 75, 100},          // 10 ms apart and somewhat more
			{2 * sec, 3 * sec, 40, 50}, // 20 ms
			{0, time.Minute, 600, 750}, //
			{0, 10 * 60 * sec, 0, 924 + 600},
			{9 * 60 * sec, 10 * 60 * sec, 60, 75},
		} {
			if n := between(c.from, c.to); n < c.least || n > c.most {
				t.Errorf("%d segments from %s to %s of load, want %d to %d", n, c.from, c.to, c.least, c.most)
			}
		}
		n := len(at)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(at) != n {
			t.Errorf("%d segments when nothing was committed", len(at)-n)
		}
		w.enqueue(s) // it has rested: two commits are two segments again
		time.Sleep(2 * leastGap)
		w.enqueue(s)
		synctest.Wait()
		if len(at) != n+2 {
			t.Errorf("%d segments of two commits after a rest", len(at)-n)
		}
	})
}

// While everything fails, attempts become fewer, down to one in 15 to 30 s;
// Flush tries at once.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts atomic.Int32
		s := startSchedule(t, 1, func(w *Writer) {
			w.mu.Lock()
			defer w.mu.Unlock()
			attempts.Add(1)
			w.attempts++
			w.retryAt = time.Now().Add(retryDelay(w.attempts))
		})
		w := begun(time.Second)
		w.enqueue(s)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := attempts.Load(); n < 2 || n > 5 {
			t.Errorf("%d attempts in the first second", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		n := attempts.Load()
		if n < 120 || n > 260 {
			t.Errorf("%d attempts in an hour", n)
		}
		s.expedite()()
		synctest.Wait()
		if n = attempts.Load() - n; n != 1 {
			t.Errorf("%d attempts at Flush", n)
		}
	})
}

// A commit that arrives during a turn gets a turn of its own.
func TestNotifiedDuringTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := 0
		var s *schedule
		s = startSchedule(t, 1, func(w *Writer) {
			w.mu.Lock()
			w.queue = nil
			w.mu.Unlock()
			if turns++; turns < 10 {
				w.enqueue(s)
			}
		})
		w := begun(time.Nanosecond)
		w.enqueue(s)
		time.Sleep(time.Second)
		synctest.Wait()
		if turns != 10 {
			t.Errorf("%d turns", turns)
		}
	})
}

// Turns are given in order, no more than the limit at a time, and those that
// are due earlier come first.
func TestOrderOfTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []*Writer
		running := make(chan struct{}, 2)
		s := startSchedule(t, 2, func(w *Writer) {
			select {
			case running <- struct{}{}:
			default:
				t.Error("more turns than the limit")
			}
			time.Sleep(time.Second)
			<-running
			w.mu.Lock()
			defer w.mu.Unlock()
			w.queue = nil
			order = append(order, w)
		})
		writers := make([]*Writer, 6)
		for i := range writers {
			writers[i] = begun(time.Hour)
			writers[i].pace = Pace{began: time.Now().Add(-time.Duration(i) * time.Minute), spent: math.Inf(1)} // the last is due first
			writers[i].enqueue(s)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		slices.Reverse(order)
		if !slices.Equal(order, writers) {
			t.Error("turns were not in the order of what is due")
		}
	})
}

// Without Flush nothing is put, and then all of it at once.
func TestOnlyFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var put []int
		s := startSchedule(t, 1, func(w *Writer) {
			w.mu.Lock()
			defer w.mu.Unlock()
			put = append(put, len(w.queue))
			w.queue = nil
		})
		w := begun(time.Second)
		w.shipper.options.OnlyFlush = true
		for range 3 {
			w.enqueue(s)
			time.Sleep(time.Hour)
		}
		synctest.Wait()
		if len(put) > 0 {
			t.Errorf("put %v without being asked", put)
		}
		done := s.expedite()
		synctest.Wait()
		done()
		if !slices.Equal(put, []int{3}) {
			t.Errorf("put %v, want all three", put)
		}
	})
}
