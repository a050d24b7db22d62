package history

import (
	"context"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/walback/walback/generations"
)

const (
	// catalogueAge is how long a list of names is believed to be complete.
	catalogueAge = 2 * time.Second
	// keptLevels is how many directories are remembered.
	keptLevels = 4096
)

// catalogue is what has been seen of the directories that clients are in, each
// asked for when somebody looks into it. A name that is in it exists; one that is
// not may have come since.
type catalogue struct {
	store  generations.Store
	spool  *generations.Spool // may be nil
	levels *lru.Cache[string, *level]

	mu      sync.Mutex // guards spooled and listed
	spooled []string   // the clients in the spool, sorted
	listed  time.Time  // when they were
}

// level is a directory of the tree.
type level struct {
	reading sync.Mutex // held while it is being read, so that it is read once
	loaded  time.Time  // guarded by reading

	mu     sync.Mutex
	client bool     // guarded by mu
	names  []string // sorted; guarded by mu, never changed
}

func newCatalogue(s generations.Store, sp *generations.Spool) *catalogue {
	levels, err := lru.New[string, *level](keptLevels)
	if err != nil {
		panic("history: " + err.Error()) // only a size below one is refused
	}
	return &catalogue{store: s, spool: sp, levels: levels}
}

// level returns what is remembered of a directory, perhaps nothing.
func (c *catalogue) level(dir string) *level {
	fresh := new(level)
	if known, ok, _ := c.levels.PeekOrAdd(dir, fresh); ok {
		c.levels.Get(dir) // it is in use
		return known
	}
	return fresh
}

// below returns the names directly in dir, "" being the root, as they were a
// moment ago.
func (c *catalogue) below(ctx context.Context, dir string) ([]string, error) {
	l := c.level(dir)
	if err := c.read(ctx, dir, l, time.Now().Add(-catalogueAge)); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.names, nil
}

// read makes sure that l is what dir was at a time, or later.
func (c *catalogue) read(ctx context.Context, dir string, l *level, at time.Time) error {
	l.reading.Lock()
	defer l.reading.Unlock()
	if !l.loaded.Before(at) {
		return nil
	}
	began := time.Now()
	stored, err := generations.ReadLevel(ctx, c.store, dir)
	if err != nil {
		return err
	}
	spooled, err := c.inSpool(at)
	if err != nil {
		return err
	}
	names := stored.Below
	prefix := dir
	if dir != "" {
		prefix += "/"
	}
	_, client := slices.BinarySearch(spooled, dir)
	i, _ := slices.BinarySearch(spooled, prefix)
	for ; i < len(spooled) && strings.HasPrefix(spooled[i], prefix); i++ {
		name, _, _ := strings.Cut(spooled[i][len(prefix):], "/")
		names = append(names, name)
	}
	slices.Sort(names)
	l.loaded = began
	l.mu.Lock()
	defer l.mu.Unlock()
	l.client, l.names = stored.Client || client, slices.Compact(names)
	return nil
}

// inSpool returns the clients that the spool has something of, as they were at a
// time, or later.
func (c *catalogue) inSpool(at time.Time) ([]string, error) {
	if c.spool == nil {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.listed.Before(at) {
		return c.spooled, nil
	}
	began := time.Now()
	clients, err := c.spool.Clients()
	if err != nil {
		return nil, err
	}
	c.spooled, c.listed = clients, began
	return clients, nil
}

// known reports whether name has been seen to be a client or a directory on the way
// to one. What was seen once needs no request.
func (c *catalogue) known(name string) bool {
	dir, base := path.Split(name)
	if l, ok := c.levels.Get(strings.TrimSuffix(dir, "/")); ok && l.has(base) {
		return true
	}
	return c.level(name).isSomething()
}

// exists reports whether name is a client or a directory on the way to one. What
// is not known may have come since: the mount beside this one may be writing the
// first transaction of a client.
func (c *catalogue) exists(ctx context.Context, name string) (bool, error) {
	if c.known(name) {
		return true, nil
	}
	l := c.level(name)
	if err := c.read(ctx, name, l, time.Now()); err != nil {
		return false, err
	}
	return l.isSomething(), nil
}

// isSomething reports whether l was there when it was read.
func (l *level) isSomething() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client || len(l.names) > 0
}

// has reports whether name was in l when it was read.
func (l *level) has(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := slices.BinarySearch(l.names, name)
	return ok
}
