package pack

import (
	"math"
	"sync"
	"sync/atomic"
)

// Memory keeps the decoded blocks of one object. It is used concurrently.
type Memory interface {
	// Get returns what load returned for the block at off, calling it when
	// nothing is kept. size is what the value takes in memory, in bytes. The
	// value must not be changed. An error is returned and not kept.
	Get(off int64, load func() (value any, size int, err error)) (any, error)
}

// ownMemory is the Memory of a Reader that was given none: it keeps the index
// and the transaction table, and of the groups only the last.
type ownMemory struct {
	metaAt int64      // index and table lie from here on
	mu     sync.Mutex // held while an index block or table is loaded, so that it is loaded once
	meta   sync.Map   // offset → value
	last   atomic.Pointer[kept]
	// index has the index blocks of meta by number, so that finding a page
	// whose block is decoded takes no lookup.
	index []atomic.Pointer[index]
}

type kept struct {
	off   int64
	value any
}

var _ Memory = (*ownMemory)(nil)

func newOwnMemory(r *root) *ownMemory {
	m := &ownMemory{metaAt: headerSize, index: make([]atomic.Pointer[index], len(r.index))}
	for _, e := range r.index {
		m.metaAt += e.bytes
	}
	if r.mapped != nil {
		m.metaAt = math.MaxInt64
	}
	return m
}

func (m *ownMemory) Get(off int64, load func() (any, int, error)) (any, error) {
	if off < m.metaAt {
		if k := m.last.Load(); k != nil && k.off == off {
			return k.value, nil
		}
		if v, ok := m.meta.Load(off); ok {
			return v, nil
		}
		v, _, err := load()
		if _, group := v.(*Pages); err == nil && group {
			m.last.Store(&kept{off, v})
		} else if err == nil { // a leaf of a map
			m.meta.Store(off, v)
		}
		return v, err
	}
	if v, ok := m.meta.Load(off); ok {
		return v, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.meta.Load(off); ok {
		return v, nil
	}
	v, _, err := load()
	if err == nil {
		m.meta.Store(off, v)
	}
	return v, err
}
