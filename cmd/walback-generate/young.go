package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/walback/walback/generations"
)

// young is a store whose small new objects are in memory at first: nearly all of
// them become part of larger ones and are deleted soon, and making files of them
// would take longer than all the rest.
type young struct {
	generations.Store

	mu      sync.Mutex
	objects map[string][]byte // by key
}

// smallObject is how many bytes of an object are kept in memory at most.
const smallObject = 256 << 10

func newYoung(s generations.Store) *young {
	return &young{Store: s, objects: make(map[string][]byte)}
}

// Put implements generations.Store. It relies on there being one process that puts
// segments of a name only once, as a writer and its merging do.
func (y *young) Put(ctx context.Context, key string, body *io.SectionReader) error {
	o, err := generations.ParseKey(key)
	if err != nil || o.Kind != generations.SegmentObject || body.Size() > smallObject {
		return y.Store.Put(ctx, key, body)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	if _, ok := y.objects[key]; ok {
		return fmt.Errorf("put %s: %w", key, generations.ErrExists)
	}
	y.objects[key] = b
	return nil
}

// Get implements generations.Store.
func (y *young) Get(ctx context.Context, key string, off, n int64) (*generations.Body, error) {
	y.mu.Lock()
	b, ok := y.objects[key]
	y.mu.Unlock()
	if !ok {
		return y.Store.Get(ctx, key, off, n)
	}
	size := int64(len(b))
	if off < 0 {
		off = max(size+off, 0)
	}
	b = b[min(off, size):]
	if n >= 0 {
		b = b[:min(n, int64(len(b)))]
	}
	return &generations.Body{ReadCloser: io.NopCloser(bytes.NewReader(b)), ObjectSize: size}, nil
}

// List implements generations.Store.
func (y *young) List(ctx context.Context, prefix, after string) iter.Seq2[generations.Entry, error] {
	return func(yield func(generations.Entry, error) bool) {
		y.mu.Lock()
		var all []generations.Entry
		for key, b := range y.objects {
			if strings.HasPrefix(key, prefix) && key > after {
				all = append(all, generations.Entry{Key: key, Size: int64(len(b))})
			}
		}
		y.mu.Unlock()
		for e, err := range y.Store.List(ctx, prefix, after) {
			if err != nil {
				yield(e, err)
				return
			}
			all = append(all, e)
		}
		slices.SortFunc(all, func(a, b generations.Entry) int { return strings.Compare(a.Key, b.Key) })
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Delete implements generations.Store.
func (y *young) Delete(ctx context.Context, key string) error {
	y.mu.Lock()
	_, ok := y.objects[key]
	delete(y.objects, key)
	y.mu.Unlock()
	if ok {
		return nil
	}
	return y.Store.Delete(ctx, key)
}

// settle puts what is in memory into the store.
func (y *young) settle(ctx context.Context) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	for key, b := range y.objects {
		if err := y.Store.Put(ctx, key, io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))); err != nil {
			return err
		}
		delete(y.objects, key)
	}
	return nil
}
