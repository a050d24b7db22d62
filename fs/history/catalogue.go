package history

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// catalogueAge is how long the list of clients is believed to be complete.
const catalogueAge = 2 * time.Second

// catalogue is the list of clients as it was when last looked at. What is in it
// exists; what is not may have come since.
type catalogue struct {
	load func(context.Context) ([]string, error)

	loading sync.Mutex // held while the list is loaded, so that it is loaded once

	mu     sync.Mutex
	names  []string // sorted
	loaded time.Time
}

// refresh lists the clients anew unless that was done a moment ago.
func (c *catalogue) refresh(ctx context.Context) error {
	c.loading.Lock()
	defer c.loading.Unlock()
	c.mu.Lock()
	fresh := !c.loaded.IsZero() && time.Since(c.loaded) < catalogueAge
	c.mu.Unlock()
	if fresh {
		return nil
	}
	began := time.Now()
	names, err := c.load(ctx)
	if err != nil {
		return err
	}
	slices.Sort(names)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names, c.loaded = slices.Compact(names), began
	return nil
}

// knows reports whether path is a known client or has some below it.
func (c *catalogue) knows(path string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, found := slices.BinarySearch(c.names, path); found {
		return true
	}
	i, _ := slices.BinarySearch(c.names, path+"/")
	return i < len(c.names) && strings.HasPrefix(c.names[i], path+"/")
}

// below returns the names directly under path, "" being the root.
func (c *catalogue) below(path string) []string {
	prefix := path
	if path != "" {
		prefix += "/"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	i, _ := slices.BinarySearch(c.names, prefix)
	for ; i < len(c.names) && strings.HasPrefix(c.names[i], prefix); i++ {
		// "a" and "a/b" may have "a-b" between them, so equal names need not be
		// neighbours.
		name, _, _ := strings.Cut(c.names[i][len(prefix):], "/")
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
