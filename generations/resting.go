package generations

import (
	"context"
	"io"
	"time"
)

// resting is an io.Writer that works for a share of the time only.
type resting struct {
	io.Writer
	ctx    context.Context
	share  float64 // of one core, above 0 and below 1
	rested time.Time
}

// leastWork is for how long it works before it rests: timers are not finer.
const leastWork = 2 * time.Millisecond

// Write implements io.Writer.
func (p *resting) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	worked := time.Since(p.rested)
	if err != nil || worked < leastWork {
		return n, err
	}
	if err := pause(p.ctx, time.Duration(float64(worked)*(1/p.share-1))); err != nil {
		return n, err
	}
	p.rested = time.Now()
	return n, nil
}

// pause returns nil after d, or an error when ctx has ended.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
