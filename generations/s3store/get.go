package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/walback/walback/generations"
)

// Get implements generations.Store. The body can be read as slowly as the
// caller likes; it ends with ctx.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (*generations.Body, error) {
	if err := s.check("get", key); err != nil {
		return nil, err
	}
	if off < 0 && n >= 0 {
		return nil, s.invalid("get", fmt.Errorf("a range of %d bytes cannot begin at %d", n, off))
	}
	if n > math.MaxInt64-max(off, 0) {
		n = -1
	}
	b := &body{s: s, ctx: ctx, key: key}
	if err := b.open(off, n); err != nil {
		return nil, s.fail(ctx, "get", key, err)
	}
	return &generations.Body{ReadCloser: b, ObjectSize: b.size}, nil
}

// rangeHeader is the Range that asks for n bytes from off on, in the terms of
// Store.Get; "" is the whole object. No range is empty, so nothing is asked for
// as one byte.
func rangeHeader(off, n int64) string {
	switch {
	case off < 0:
		return fmt.Sprintf("bytes=%d", off)
	case n >= 0:
		return fmt.Sprintf("bytes=%d-%d", off, off+max(n, 1)-1)
	case off > 0:
		return fmt.Sprintf("bytes=%d-", off)
	}
	return ""
}

// body reads a range of an object, over as many requests as it takes.
type body struct {
	s   *Store
	ctx context.Context // of the Get
	key string

	size      int64 // bytes of the whole object
	next, end int64 // what is left of the range

	from     io.ReadCloser // the current answer, at next; nil between two
	watch    *watch        // of the request that from answers
	failures int           // answers in a row that broke off without a byte
	closed   bool
}

// open begins to read the range that off and n ask for and sets size, next and end.
func (b *body) open(off, n int64) error {
	err := b.s.retry(b.ctx, func(context.Context, *watch) error { return b.request(off, n) })
	if status, _ := answer(err); status == 416 {
		// The answer need not tell the size.
		return b.unsatisfiable(off)
	}
	return err
}

// request sends one GET. It has its own watch, which lives as long as the answer.
func (b *body) request(off, n int64) error {
	w := newWatch(b.ctx, b.s.o.Stall)
	in := &s3.GetObjectInput{Bucket: &b.s.o.Bucket, Key: aws.String(b.s.root + b.key)}
	if r := rangeHeader(off, n); r != "" {
		in.Range = &r
	}
	out, err := b.s.client.GetObject(w.ctx, in)
	if err != nil {
		err = w.explain(err)
		w.stop()
		return err
	}
	w.rest()
	b.from, b.watch = out.Body, w
	if err := b.place(out, off, n); err != nil {
		b.drop()
		return err
	}
	return nil
}

// place works out which bytes an answer begins with, and what the range is of
// the object that it tells the size of.
func (b *body) place(out *s3.GetObjectOutput, off, n int64) error {
	var first int64
	if out.ContentRange != nil {
		var err error
		if first, b.size, err = parseContentRange(*out.ContentRange); err != nil {
			return err
		}
	} else { // the whole object
		if out.ContentLength == nil || *out.ContentLength < 0 {
			return errors.New("the server does not tell the object's size")
		}
		b.size = *out.ContentLength
	}
	if off < 0 {
		off = max(0, b.size+off)
	}
	b.next = min(off, b.size)
	b.end = b.size
	if n >= 0 {
		b.end = min(b.size, b.next+n)
	}
	if b.next == b.end {
		b.drop()
		return nil
	}
	if first != b.next {
		return fmt.Errorf("the server answers from byte %d on when asked for byte %d", first, b.next)
	}
	return nil
}

// parseContentRange takes "bytes 0-99/1000" apart (RFC 9110 §14.4).
func parseContentRange(v string) (first, size int64, err error) {
	rest, ok := strings.CutPrefix(v, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	from, _, ok3 := strings.Cut(span, "-")
	if ok && ok2 && ok3 {
		first, err = strconv.ParseInt(from, 10, 64)
		if err == nil {
			size, err = strconv.ParseInt(total, 10, 64)
		}
		if err == nil && first >= 0 && size > first {
			return first, size, nil
		}
	}
	return 0, 0, fmt.Errorf("the server answers with a Content-Range that makes no sense: %q", v)
}

// unsatisfiable is open for a range that has none of the object's bytes: it
// begins behind the end, or counts from the end of an object without bytes. Some
// servers also refuse to count back further than the beginning.
func (b *body) unsatisfiable(off int64) error {
	return b.s.retry(b.ctx, func(ctx context.Context, _ *watch) error {
		out, err := b.s.client.HeadObject(ctx, &s3.HeadObjectInput{
			Bucket: &b.s.o.Bucket, Key: aws.String(b.s.root + b.key)})
		if _, ok := errors.AsType[*types.NotFound](err); ok { // an answer to HEAD cannot say what was not found
			return &generations.StoreError{Op: "get", Name: b.s.name(b.key), Kind: generations.ErrNotFound, Text: "no such object", Err: err}
		}
		if err != nil {
			return err
		}
		if out.ContentLength == nil {
			return errors.New("the server does not tell the object's size")
		}
		b.size = *out.ContentLength
		b.next, b.end = b.size, b.size
		if off < 0 {
			b.next = max(0, b.size+off)
		}
		return nil
	})
}

// drop lets go of the current answer. A connection whose answer was not read to
// its end is closed, so there is nothing to report.
func (b *body) drop() {
	if b.from != nil {
		b.watch.stop()
		_ = b.from.Close()
		b.from, b.watch = nil, nil
	}
}

// Read continues in a new request where an answer breaks off: objects never
// change.
func (b *body) Read(p []byte) (int, error) {
	for {
		switch {
		case b.closed:
			return 0, b.s.fail(b.ctx, "get", b.key, fs.ErrClosed)
		case b.next == b.end:
			b.drop()
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		if err := b.ctx.Err(); err != nil {
			return 0, b.s.fail(b.ctx, "get", b.key, err)
		}
		if b.from == nil {
			size, end := b.size, b.end
			err := b.s.retry(b.ctx, func(context.Context, *watch) error { return b.request(b.next, end-b.next) })
			if err == nil && b.size != size {
				b.drop()
				err = fmt.Errorf("the object had %d bytes and has %d now", size, b.size)
			}
			if err != nil {
				return 0, b.s.fail(b.ctx, "get", b.key, err)
			}
		}
		b.watch.moved()
		n, err := b.from.Read(p[:min(int64(len(p)), b.end-b.next)])
		b.watch.rest()
		b.next += int64(n)
		if n > 0 {
			b.failures = 0
		}
		if err != nil && b.next < b.end {
			err = b.brokeOff(err)
		} else {
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// brokeOff drops an answer that ended early; the error is nil if it is worth
// going on.
func (b *body) brokeOff(err error) error {
	err = b.watch.explain(err)
	b.drop()
	b.failures++
	if b.failures < b.s.o.Attempts {
		return b.s.fail(b.ctx, "get", b.key, pause(b.ctx, b.s.o.Pause, b.failures))
	}
	err = fmt.Errorf("the answer breaks off at byte %d: %w", b.next, err)
	return b.s.fail(b.ctx, "get", b.key, &gaveUpError{b.failures, err})
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.closed = true
	b.drop()
	return nil
}
