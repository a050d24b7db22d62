package s3store

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t.Context(), time.Second)
		defer w.stop()
		for range 10 { // slow, but moving
			time.Sleep(900 * time.Millisecond)
			w.moved()
		}
		w.rest() // a caller that takes its time
		time.Sleep(time.Hour)
		if w.ctx.Err() != nil {
			t.Fatal("ended although all moved")
		}
		w.moved()
		time.Sleep(time.Second)
		synctest.Wait()
		cause := errors.New("cause")
		if _, ok := errors.AsType[*stalledError](w.explain(cause)); !ok || w.ctx.Err() == nil {
			t.Errorf("not ended: %v", w.explain(cause))
		}
		if err := w.explain(nil); err != nil {
			t.Errorf("success made into %v", err)
		}
	})
}

func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for n := 1; n < 100; n++ {
			longest := maxPause
			if n < 7 {
				longest = 100 * time.Millisecond << (n - 1)
			}
			begin := time.Now()
			if err := pause(t.Context(), 100*time.Millisecond, n); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begin); d < longest/2 || d > longest {
				t.Errorf("pause %d is %v, want %v to %v", n, d, longest/2, longest)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := pause(ctx, time.Hour, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
