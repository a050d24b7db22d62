package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
)

// A fetch brings a run of chunks of an object, by one GET at most. Those who
// wait for its first bytes need not wait for its last.
type fetch struct {
	off int64 // of buf in the object, a multiple of ChunkSize
	// fresh fetches take every byte from the store.
	fresh bool
	buf   []byte
	// arrived, when not nil, is told when filled has changed.
	arrived func(filled int)

	mu   sync.Mutex
	more sync.Cond // filled or err changed
	// filled is how much of buf is there; those bytes do not change any more.
	filled int
	err    error // why no more than filled will come
}

func newFetch(off, n int64, fresh bool) *fetch {
	f := &fetch{off: off, buf: make([]byte, n), fresh: fresh}
	f.more.L = &f.mu
	return f
}

// chunks yields the numbers of the chunks that f brings.
func (f *fetch) chunks() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for at := int64(0); at < int64(len(f.buf)); at += ChunkSize {
			if !yield((f.off + at) / ChunkSize) {
				return
			}
		}
	}
}

// wait copies the bytes of the object at off, all of them within the fetch, to
// p as soon as they have come.
func (f *fetch) wait(p []byte, off int64) error {
	from := int(off - f.off)
	f.mu.Lock()
	for f.filled < from+len(p) && f.err == nil {
		f.more.Wait()
	}
	filled, err := f.filled, f.err
	f.mu.Unlock()
	if filled < from+len(p) {
		return err
	}
	copy(p, f.buf[from:])
	return nil
}

// failed reports whether the fetch has ended without all of it. Who comes now
// tries anew.
func (f *fetch) failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err != nil
}

func (f *fetch) advance(n int, err error) {
	f.mu.Lock()
	f.filled += n
	f.err = err
	filled := f.filled
	f.mu.Unlock()
	f.more.Broadcast()
	if f.arrived != nil {
		f.arrived(filled)
	}
}

// run brings the chunks and keeps them. Only the goroutine that runs a fetch
// changes it.
func (f *fetch) run(ctx context.Context, o *object) {
	if !f.fresh {
		f.takeKept(o)
	}
	if f.filled == len(f.buf) {
		return
	}
	first := f.filled
	if err := f.fetchRest(ctx, o); err != nil {
		f.advance(0, err)
	}
	for at := first; at < f.filled; at += ChunkSize {
		end := min(at+ChunkSize, len(f.buf))
		if end > f.filled {
			break // cut short by an error
		}
		o.cache.chunks.put(o.id.chunk((f.off+int64(at))/ChunkSize), f.buf[at:end])
	}
}

// takeKept fills what lies in front of the first chunk that is missing: between
// our looking and our turn, another fetch may have brought what we wanted.
func (f *fetch) takeKept(o *object) {
	for f.filled < len(f.buf) {
		chunk := f.buf[f.filled:min(f.filled+ChunkSize, len(f.buf))]
		if !o.cache.chunks.get(o.id.chunk((f.off+int64(f.filled))/ChunkSize), chunk) {
			return
		}
		f.advance(len(chunk), nil)
	}
}

// cutError tells that the answer to a GET ended early. It matches nothing that
// could be taken for the end of an object.
type cutError struct {
	key   string
	off   int64
	cause error
}

func (e *cutError) Error() string {
	return fmt.Sprintf("reading %s: the answer ended at byte %d: %v", e.key, e.off, e.cause)
}

// fetchRest reads what is missing from the store. The store retries requests;
// an answer that is cut goes on where it ended, unless that leads nowhere.
func (f *fetch) fetchRest(ctx context.Context, o *object) error {
	const attempts = 3
	for failed := 0; ; {
		before := f.filled
		err := f.get(ctx, o)
		if cut := (*cutError)(nil); err == nil || !errors.As(err, &cut) || ctx.Err() != nil {
			return err
		}
		if f.filled > before {
			failed = 0
		} else if failed++; failed == attempts {
			return err
		}
	}
}

// get does one GET.
func (f *fetch) get(ctx context.Context, o *object) error {
	missing := f.buf[f.filled:]
	off := f.off + int64(f.filled)
	o.cache.gets.Add(1)
	body, err := o.cache.store.Get(ctx, o.key, off, int64(len(missing)))
	if err != nil {
		return fmt.Errorf("reading %s: %w", o.key, err)
	}
	// When it is closed, all that was asked for has been read, or there is an
	// error that says more.
	defer body.Close()
	if body.ObjectSize != o.size {
		return fmt.Errorf("reading %s: it has %d bytes, but its listing said %d", o.key, body.ObjectSize, o.size)
	}
	const step = 128 << 10 // bytes after which those who wait are told
	for len(missing) > 0 {
		n, err := io.ReadFull(body, missing[:min(step, len(missing))])
		o.cache.bytes.Add(int64(n))
		f.advance(n, nil)
		missing, off = missing[n:], off+int64(n)
		if err != nil {
			return &cutError{o.key, off, err}
		}
	}
	return nil
}
