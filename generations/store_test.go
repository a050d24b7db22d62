package generations_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/walback/walback/generations"
)

// memory is a Store in memory with a hook at both ends of every request.
type memory struct {
	mu      sync.Mutex
	objects map[string][]byte
	dates   map[string]time.Time // when some were put, for all that listings tell
	calls   []call

	// before may refuse a request, after may lose its reply; either may be nil.
	before, after func(call) error
}

// call is one request.
type call struct {
	op, key string
}

func newMemory() *memory { return &memory{objects: make(map[string][]byte)} }

// clone returns a store with the same objects and no hooks.
func (m *memory) clone() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memory{objects: maps.Clone(m.objects)}
}

// hook replaces the hooks.
func (m *memory) hook(before, after func(call) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.after = before, after
}

func (m *memory) enter(ctx context.Context, op, key string) error {
	m.mu.Lock()
	before := m.before
	m.calls = append(m.calls, call{op, key})
	m.mu.Unlock()
	if before != nil {
		if err := before(call{op, key}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (m *memory) leave(op, key string) error {
	m.mu.Lock()
	after := m.after
	m.mu.Unlock()
	if after != nil {
		return after(call{op, key})
	}
	return nil
}

// count returns the number of requests so far of the given kind whose key holds part.
func (m *memory) count(op, part string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.calls {
		if c.op == op && strings.Contains(c.key, part) {
			n++
		}
	}
	return n
}

func (m *memory) Put(ctx context.Context, key string, body *io.SectionReader) error {
	if err := m.enter(ctx, "put", key); err != nil {
		return err
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	m.mu.Lock()
	_, exists := m.objects[key]
	if !exists {
		m.objects[key] = b
	}
	m.mu.Unlock()
	if exists {
		return fmt.Errorf("put %s: %w", key, generations.ErrExists)
	}
	return m.leave("put", key)
}

func (m *memory) Get(ctx context.Context, key string, off, n int64) (*generations.Body, error) {
	if err := m.enter(ctx, "get", key); err != nil {
		return nil, err
	}
	m.mu.Lock()
	b, ok := m.objects[key]
	m.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("get %s: %w", key, generations.ErrNotFound)
	}
	size := int64(len(b))
	if off < 0 {
		off = max(0, size+off)
	}
	off = min(off, size)
	if n < 0 || off+n > size {
		n = size - off
	}
	return &generations.Body{ReadCloser: io.NopCloser(bytes.NewReader(b[off : off+n])), ObjectSize: size}, nil
}

func (m *memory) List(ctx context.Context, prefix, after string) iter.Seq2[generations.Entry, error] {
	return func(yield func(generations.Entry, error) bool) {
		if err := m.enter(ctx, "list", prefix); err != nil {
			yield(generations.Entry{}, err)
			return
		}
		for _, k := range m.keys() {
			if !strings.HasPrefix(k, prefix) || k <= after {
				continue
			}
			m.mu.Lock()
			b, ok := m.objects[k]
			m.mu.Unlock()
			if ok && !yield(generations.Entry{Key: k, Size: int64(len(b)), Put: m.dates[k]}, nil) {
				return
			}
		}
	}
}

// keys returns all keys in order.
func (m *memory) keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

func (m *memory) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := m.enter(ctx, "dirs", prefix); err != nil {
			yield("", err)
			return
		}
		last := ""
		for _, k := range m.keys() {
			rest, ok := strings.CutPrefix(k, prefix)
			name, _, isDir := strings.Cut(rest, "/")
			if ok && isDir && name != last {
				if last = name; !yield(name, nil) {
					return
				}
			}
		}
	}
}

func (m *memory) Delete(ctx context.Context, key string) error {
	if err := m.enter(ctx, "delete", key); err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.objects, key)
	m.mu.Unlock()
	return m.leave("delete", key)
}

func (m *memory) String() string { return "memory:" }

var _ generations.Store = (*memory)(nil)

var errDown = errors.New("the store is down")
