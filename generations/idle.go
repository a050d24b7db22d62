package generations

import "context"

// idle tells those who wait for it that nothing is left to do in the background.
// Whoever works there has a mutex, which guards it.
type idle struct{ ended chan struct{} } // nil: nobody waits

// tell tells that nothing is left to do.
func (i *idle) tell() {
	if i.ended != nil {
		close(i.ended)
		i.ended = nil
	}
}

// wait returns a channel that is closed by the next tell.
func (i *idle) wait() <-chan struct{} {
	if i.ended == nil {
		i.ended = make(chan struct{})
	}
	return i.ended
}

// until waits for a channel of wait, as long as ctx allows.
func until(ctx context.Context, ended <-chan struct{}) error {
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
