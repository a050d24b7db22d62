package history

import "context"

// await runs f and returns what it does, or the error of ctx when that ends
// before; f then goes on by itself, for nobody. An application that waits for a
// store in vain must be able to go.
func await[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		v, err := f()
		answers <- answer{v, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
