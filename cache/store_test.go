package cache

import (
	"bytes"
	"context"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/walback/walback/generations"
)

// memStore is a Store in memory that counts, and that can be made to wait and
// to lie.
type memStore struct {
	mu      sync.Mutex
	objects map[string][]byte

	gets, bytes atomic.Int64
	before      func(ctx context.Context) error // guarded by mu
	alter       func(b []byte) []byte           // guarded by mu
}

var _ generations.Store = (*memStore)(nil)

func newMemStore() *memStore { return &memStore{objects: make(map[string][]byte)} }

// setBefore has f called at the start of every Get; it may block or fail it.
func (m *memStore) setBefore(f func(ctx context.Context) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = f
}

// setAlter has f change what Gets answer.
func (m *memStore) setAlter(f func(b []byte) []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alter = f
}

func (m *memStore) set(key string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects[key] = b
}

func (m *memStore) Put(ctx context.Context, key string, body *io.SectionReader) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[key]; ok {
		return generations.ErrExists
	}
	m.objects[key] = b
	return nil
}

func (m *memStore) Get(ctx context.Context, key string, off, n int64) (*generations.Body, error) {
	m.gets.Add(1)
	m.mu.Lock()
	before, alter := m.before, m.alter
	m.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	b, ok := m.objects[key]
	m.mu.Unlock()
	if !ok {
		return nil, generations.ErrNotFound
	}
	size := int64(len(b))
	if off < 0 {
		off = max(0, size+off)
	}
	end := size
	if n >= 0 {
		end = min(size, off+n)
	}
	part := b[min(off, size):end]
	m.bytes.Add(int64(len(part)))
	if alter != nil {
		part = alter(bytes.Clone(part))
	}
	return &generations.Body{ReadCloser: io.NopCloser(bytes.NewReader(part)), ObjectSize: size}, nil
}

func (m *memStore) keys() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

func (m *memStore) List(ctx context.Context, prefix, after string) iter.Seq2[generations.Entry, error] {
	return func(yield func(generations.Entry, error) bool) {
		for _, k := range m.keys() {
			if !strings.HasPrefix(k, prefix) || k <= after {
				continue
			}
			m.mu.Lock()
			size := int64(len(m.objects[k]))
			m.mu.Unlock()
			if !yield(generations.Entry{Key: k, Size: size}, nil) {
				return
			}
		}
	}
}

func (m *memStore) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		last := ""
		for _, k := range m.keys() {
			rest, ok := strings.CutPrefix(k, prefix)
			name, _, isDir := strings.Cut(rest, "/")
			if ok && isDir && name != last {
				last = name
				if !yield(name, nil) {
					return
				}
			}
		}
	}
}

func (m *memStore) Delete(ctx context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

func (m *memStore) String() string { return "mem:" }
