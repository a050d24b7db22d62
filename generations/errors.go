package generations

import (
	"errors"
	"fmt"
	"io/fs"
)

// What a Timeline does not have. All match fs.ErrNotExist too.
var (
	ErrNoClient     = fmt.Errorf("no such client: %w", fs.ErrNotExist)
	ErrNoGeneration = fmt.Errorf("no such generation: %w", fs.ErrNotExist)
	ErrNoInstant    = fmt.Errorf("no such instant: %w", fs.ErrNotExist)
	// ErrNotKept tells that there was such an instant, before history was pruned.
	ErrNotKept = fmt.Errorf("not kept: %w", ErrNoInstant)
)

var (
	// ErrIncomplete tells that stored objects are missing between others.
	ErrIncomplete = errors.New("history is incomplete")

	// ErrBroken tells that a generation takes no more transactions: call Begin.
	ErrBroken = errors.New("the generation cannot be continued")

	// ErrFenced tells that another writer has taken the generation over: this
	// one ships no more.
	ErrFenced = errors.New("another writer has taken over the generation")

	// ErrSpoolFull tells that no more can wait in the spool: a generation has
	// ended, and none begins, until there is room again.
	ErrSpoolFull = errors.New("the spool is full")

	// ErrSpoolInUse tells that another process has the spool.
	ErrSpoolInUse = errors.New("the spool is in use by another process")
)

// tellError has a text of its own and the identity of another error.
type tellError struct {
	text string
	is   error
}

func (e *tellError) Error() string { return e.text }
func (e *tellError) Unwrap() error { return e.is }

// tell returns an error that matches is and reads as formatted.
func tell(is error, format string, args ...any) error {
	return &tellError{fmt.Sprintf(format, args...), is}
}

// isVanished reports whether err tells that an object which was listed is not
// there any more: a piece that has been shipped, or an object that was pruned.
func isVanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNoClient) &&
		!errors.Is(err, ErrNoGeneration) && !errors.Is(err, ErrNoInstant) && !errors.Is(err, ErrNoBucket)
}
