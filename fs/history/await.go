package history

import (
	"context"
	"time"

	wfs "github.com/walback/walback/fs"
)

// lookAgain is how long a process that was interrupted may go on before somebody
// looks whether it is to end now.
const lookAgain = 50 * time.Millisecond

// await runs f and returns what it does, or an error when the process that has
// made the request of ctx is to end before; f then goes on by itself, for nobody.
// An application that waits for a store in vain must be able to go, and one that is
// interrupted for something else must not notice.
func await[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		v, err := f(work)
		answers <- answer{v, err}
	}()
	interrupted := ctx.Done()
	var again <-chan time.Time
	for {
		select {
		case a := <-answers:
			return a.value, a.err
		case <-interrupted:
			interrupted = nil
		case <-again:
		}
		if wfs.ToEnd(ctx) {
			var none T
			return none, context.Canceled
		}
		again = time.After(lookAgain)
	}
}
