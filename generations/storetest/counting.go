package storetest

import (
	"context"
	"io"
	"iter"
	"strings"
	"sync"

	"github.com/walback/walback/generations"
)

// Counts is what has been asked of a store.
type Counts struct {
	Gets, Puts, Lists, Dirs, Deletes int   // calls, failed ones too
	Read                             int64 // bytes that came out of the bodies of Gets
	Written                          int64 // bytes of the bodies given to Put
}

// Plus is both together.
func (c Counts) Plus(d Counts) Counts {
	return Counts{c.Gets + d.Gets, c.Puts + d.Puts, c.Lists + d.Lists, c.Dirs + d.Dirs, c.Deletes + d.Deletes,
		c.Read + d.Read, c.Written + d.Written}
}

// Requests is how many calls there were of any kind.
func (c Counts) Requests() int { return c.Gets + c.Puts + c.Lists + c.Dirs + c.Deletes }

// Counter is a store that counts what is asked of another.
type Counter struct {
	generations.Store

	mu     sync.Mutex
	counts map[string]Counts // by key, or prefix of a listing; guarded by mu
}

// Counting wraps s.
func Counting(s generations.Store) *Counter {
	return &Counter{Store: s, counts: make(map[string]Counts)}
}

// Total is what has been asked since the last Reset.
func (c *Counter) Total() Counts { return c.Below("") }

// Below is Total for the keys and prefixes that begin with prefix.
func (c *Counter) Below(prefix string) Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sum Counts
	for key, n := range c.counts {
		if strings.HasPrefix(key, prefix) {
			sum = sum.Plus(n)
		}
	}
	return sum
}

// Key is Total for one key.
func (c *Counter) Key(key string) Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[key]
}

// Reset begins to count again and returns what Total was.
func (c *Counter) Reset() Counts {
	sum := c.Total()
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.counts)
	return sum
}

func (c *Counter) count(key string, n Counts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[key] = c.counts[key].Plus(n)
}

// Put implements generations.Store.
func (c *Counter) Put(ctx context.Context, key string, body *io.SectionReader) error {
	c.count(key, Counts{Puts: 1, Written: body.Size()})
	return c.Store.Put(ctx, key, body)
}

// Get implements generations.Store.
func (c *Counter) Get(ctx context.Context, key string, off, n int64) (*generations.Body, error) {
	c.count(key, Counts{Gets: 1})
	b, err := c.Store.Get(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	return &generations.Body{ReadCloser: &countedBody{b.ReadCloser, c, key}, ObjectSize: b.ObjectSize}, nil
}

type countedBody struct {
	io.ReadCloser
	c   *Counter
	key string
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.c.count(b.key, Counts{Read: int64(n)})
	return n, err
}

// List implements generations.Store.
func (c *Counter) List(ctx context.Context, prefix, after string) iter.Seq2[generations.Entry, error] {
	return func(yield func(generations.Entry, error) bool) {
		c.count(prefix, Counts{Lists: 1})
		c.Store.List(ctx, prefix, after)(yield)
	}
}

// Dirs implements generations.Store.
func (c *Counter) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		c.count(prefix, Counts{Dirs: 1})
		c.Store.Dirs(ctx, prefix)(yield)
	}
}

// Delete implements generations.Store.
func (c *Counter) Delete(ctx context.Context, key string) error {
	c.count(key, Counts{Deletes: 1})
	return c.Store.Delete(ctx, key)
}
