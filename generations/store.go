package generations

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"time"

	"github.com/walback/walback/wal"
)

// Store keeps objects under keys. Objects are written once and never change.
// Every method may be called concurrently and ends early with the context's
// error. Keys are slash-separated UTF-8 without empty, "." or ".." elements.
type Store interface {
	// Put creates key with what body holds. It is atomic: other callers see the
	// whole object or none. If key exists, nothing is changed and the error
	// matches ErrExists; that may be an earlier attempt of our own whose reply
	// was lost, so the caller has to look.
	Put(ctx context.Context, key string, body *io.SectionReader) error

	// Get returns n bytes of key from off on, fewer only where the object ends.
	// A negative n means up to the end. A negative off counts from the end (the
	// last -off bytes, or the whole object if it is shorter; n must be negative
	// too). A missing key gives ErrNotFound.
	Get(ctx context.Context, key string, off, n int64) (*Body, error)

	// List yields the objects whose keys begin with prefix and sort (bytewise)
	// behind after, in key order. prefix ends in a slash or is empty.
	List(ctx context.Context, prefix, after string) iter.Seq2[Entry, error]

	// Dirs yields, in order, the names (without slashes) directly under prefix
	// that are followed by a slash in some key.
	Dirs(ctx context.Context, prefix string) iter.Seq2[string, error]

	// Delete removes key; a missing key is no error.
	Delete(ctx context.Context, key string) error

	// String is the replica URL of the store, without secrets.
	String() string
}

// Entry is an object as a listing tells of it.
type Entry struct {
	Key  string
	Size int64 // bytes
	// Put is when it was put, as far as the store tells; zero when it does not. A
	// copy of a store tells when it was copied, so nothing but haste depends on it.
	Put time.Time
}

// put is Put as a time of ours, 0 when it is not told.
func (e Entry) put() wal.Time {
	if e.Put.IsZero() {
		return 0
	}
	return wal.TimeOf(e.Put)
}

// Body is the answer to a Get: the bytes asked for, and the size of the whole
// object. The caller closes it.
type Body struct {
	io.ReadCloser
	ObjectSize int64
}

// ErrNotFound and ErrExists are what a Store's errors match (errors.Is), along
// with fs.ErrNotExist and fs.ErrExist. ErrNoBucket and ErrDenied tell that no
// retry will help until somebody acts: the bucket or directory does not exist,
// or the credentials are refused.
var (
	ErrNotFound = fmt.Errorf("no such object: %w", fs.ErrNotExist)
	ErrExists   = fmt.Errorf("object exists: %w", fs.ErrExist)
	ErrNoBucket = fmt.Errorf("no such bucket: %w", fs.ErrNotExist)
	ErrDenied   = fmt.Errorf("access denied: %w", fs.ErrPermission)
)
