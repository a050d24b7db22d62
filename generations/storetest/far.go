package storetest

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/walback/walback/generations"
)

// Far is a store that is far away: each request to list or get something takes a
// while, and it counts the trips there and back that whoever asks has to wait for.
type Far struct {
	generations.Store
	delay time.Duration

	mu    sync.Mutex
	trips int // guarded by mu
}

// FarAway wraps s. Two requests are taken for one trip if the second is made before
// the first has taken delay.
func FarAway(s generations.Store, delay time.Duration) *Far { return &Far{Store: s, delay: delay} }

// Trips is how many requests came one after the other, each when the one before
// had been answered, since the last time this was asked.
func (f *Far) Trips() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.trips
	f.trips = 0
	return n
}

// travel lets a request take its time.
func (f *Far) travel(ctx context.Context) error {
	f.mu.Lock()
	trip := f.trips + 1
	f.mu.Unlock()
	timer := time.NewTimer(f.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trips = max(f.trips, trip)
	return nil
}

// Get implements generations.Store.
func (f *Far) Get(ctx context.Context, key string, off, n int64) (*generations.Body, error) {
	if err := f.travel(ctx); err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, key, off, n)
}

// List implements generations.Store.
func (f *Far) List(ctx context.Context, prefix, after string) iter.Seq2[generations.Entry, error] {
	return func(yield func(generations.Entry, error) bool) {
		if err := f.travel(ctx); err != nil {
			yield(generations.Entry{}, err)
			return
		}
		f.Store.List(ctx, prefix, after)(yield)
	}
}

// Dirs implements generations.Store.
func (f *Far) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := f.travel(ctx); err != nil {
			yield("", err)
			return
		}
		f.Store.Dirs(ctx, prefix)(yield)
	}
}
