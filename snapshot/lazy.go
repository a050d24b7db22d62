package snapshot

import (
	"sync"
	"sync/atomic"
)

// lazy is a value made when it is first asked for. A failure is not kept.
type lazy[T any] struct {
	made atomic.Pointer[T]
	mu   sync.Mutex // held while it is made
}

func (l *lazy[T]) get(make func() (T, error)) (T, error) {
	if v := l.made.Load(); v != nil {
		return *v, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if v := l.made.Load(); v != nil {
		return *v, nil
	}
	v, err := make()
	if err == nil {
		l.made.Store(&v)
	}
	return v, err
}
