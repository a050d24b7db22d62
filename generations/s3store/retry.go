package s3store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

// maxPause is the longest pause between two attempts.
const maxPause = 5 * time.Second

// retry calls try until it succeeds, fails for good, or has failed s.o.Attempts
// times. Each attempt has a context of its own that ends when its watch has seen
// nothing move. The error is the last attempt's, or ctx's.
func (s *Store) retry(ctx context.Context, try func(context.Context, *watch) error) error {
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		w := newWatch(ctx, s.o.Stall)
		err := w.explain(try(w.ctx, w))
		w.stop()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !transient(err):
			return err
		case n == s.o.Attempts:
			return &gaveUpError{n, err}
		}
		if err := pause(ctx, s.o.Pause, n); err != nil {
			return err
		}
	}
}

// pause waits before attempt n+1: first·2ⁿ⁻¹, at most maxPause, less up to half
// at random so that many clients do not come back at once.
func pause(ctx context.Context, first time.Duration, n int) error {
	d := maxPause
	if n < 16 {
		d = min(first<<(n-1), maxPause)
	}
	d -= rand.N(d/2 + 1)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// gaveUpError is the error of the last of several attempts.
type gaveUpError struct {
	attempts int
	err      error
}

func (e *gaveUpError) Error() string { return fmt.Sprintf("%v (%d attempts)", e.err, e.attempts) }
func (e *gaveUpError) Unwrap() error { return e.err }

// transient tells whether another attempt may succeed where err ended one.
func transient(err error) bool {
	if _, ok := errors.AsType[credentialsError](err); ok {
		return false
	}
	if _, ok := errors.AsType[*sourceError](err); ok {
		return false
	}
	if _, ok := errors.AsType[*stalledError](err); ok {
		return true
	}
	status, code := answer(err)
	if status == 0 && certificateProblem(err) != "" {
		return false
	}
	switch code {
	case "BadDigest", "IncompleteBody",
		"RequestTimeTooSkewed": // the SDK has learned the server's time from the answer
		return true
	}
	switch status {
	case 408, 429,
		409: // a conflict with another request, e.g. ConditionalRequestConflict, OperationAborted
		return true
	}
	return retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary
}

// stalledError ends an attempt on which nothing has moved for a time.
type stalledError struct{ after time.Duration }

func (e *stalledError) Error() string {
	return fmt.Sprintf("nothing moved on the connection for %v", e.after)
}

// watch ends an attempt when nothing has moved for a time. The whole of an
// attempt needs no limit then, however large the object and slow the line.
type watch struct {
	ctx    context.Context // the attempt's
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func newWatch(ctx context.Context, stall time.Duration) *watch {
	w := &watch{stall: stall}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(stall, func() {
		w.cancel(&stalledError{stall})
	})
	return w
}

// moved says that something moved, or that now it is the server's turn.
func (w *watch) moved() { w.timer.Reset(w.stall) }

// rest says that now it is our turn.
func (w *watch) rest() { w.timer.Stop() }

// stop ends the attempt.
func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// explain gives the stalledError in place of the cancellation that it caused.
func (w *watch) explain(err error) error {
	if stalled, ok := errors.AsType[*stalledError](context.Cause(w.ctx)); ok && err != nil {
		return stalled
	}
	return err
}
