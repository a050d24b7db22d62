package generations

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Jobs are done one at a time in their order, also those that a job adds, and
// whoever waits is told when none is left.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var q *queue[int]
		var done []int
		q = newQueue(ctx, func(n int) {
			time.Sleep(time.Second) // of this bubble: the others are waiting
			done = append(done, n)
			if n < 10 {
				q.add(n + 10)
			}
		})
		if err := q.settled(ctx); err != nil {
			t.Errorf("nothing is left of nothing: %v", err)
		}
		q.add()
		for round := range 2 { // the second one begins when the goroutine has gone
			done = nil
			q.add(1, 2)
			q.add(3)
			hasty, end := context.WithTimeout(ctx, time.Second/2)
			if q.settled(hasty) == nil {
				t.Errorf("round %d: all is done at once", round)
			}
			end()
			if err := q.settled(ctx); err != nil {
				t.Error(err)
			}
			if want := []int{1, 2, 3, 11, 12, 13}; !slices.Equal(done, want) {
				t.Errorf("round %d: %v are done, want %v", round, done, want)
			}
		}

		// At the end, the job under way is waited for, and the others are forgotten.
		done = nil
		q.add(20, 21)
		synctest.Wait()
		cancel()
		q.add(22)
		q.wait()
		if !slices.Equal(done, []int{20}) {
			t.Errorf("%v are done, want 20 alone", done)
		}
		if err := q.settled(context.Background()); err != nil {
			t.Errorf("after the end: %v", err)
		}
	})
}
