package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"weak"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal/pack"
)

// Defaults of Options.
const (
	DefaultMaxBytes = 1 << 30
	DefaultMemory   = 64 << 20
)

const (
	// openPacks is how many packs are kept open that nobody may be using, where
	// DefaultMemory is used; they take memory besides.
	openPacks = 1024
	// spareMemory bounds, in bytes, the chunks kept in memory because the disk
	// would not take them: enough for what is being read ahead.
	spareMemory = 16 << 20
)

// Options say how much to keep. The zero value works.
type Options struct {
	// Dir is where chunks are kept between runs; several processes may share
	// it. "": in memory only.
	Dir string
	// MaxBytes bounds the disk space used in Dir; 0: DefaultMaxBytes. When
	// another process uses Dir with another bound, that one stays in force.
	MaxBytes int64
	// Memory bounds the decoded blocks kept in memory; without a Dir, as much
	// again holds chunks. 0: DefaultMemory.
	Memory int64
}

// Stats counts what a Cache has done since it was made.
type Stats struct {
	Gets       int64 // requests to the store
	Bytes      int64 // bytes fetched from the store
	ReadAheads int64 // those of Gets, at most, that no reader was waiting for
	Hits       int64 // chunks that were asked for and kept
	Misses     int64 // chunks that were asked for and had to be fetched
	// DiskError is the last error of the chunk file. It costs requests, never
	// correctness. Nil when there was none.
	DiskError error
}

// Cache reads objects of one store, and of a spool beside it. It is safe for
// concurrent use.
type Cache struct {
	store  generations.Store
	spool  *generations.Spool // may be nil
	chunks chunkStore
	slab   *slab // nil without a chunk file
	noSlab error // why there is none although there should be one
	blocks *blocks

	packs   *lru.Cache[objectID, *pack.Reader]
	objects *lru.Cache[objectID, *object] // those that packs are read from
	opening singleflight.Group
	// local holds the open packs of the spool for as long as somebody uses
	// them, by key.
	localMu   sync.Mutex
	local     map[string]weak.Pointer[pack.Reader]
	localOpen atomic.Int64 // files
	localMost int64

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	ahead      *semaphore.Weighted // bytes being read ahead
	backMu     sync.Mutex          // closed is set, or background grows
	closed     bool
	background sync.WaitGroup

	gets, bytes, readAheads, hits, misses atomic.Int64
}

var _ generations.Opener = (*Cache)(nil)

// New returns a cache of s, and of sp unless it is nil. It fails when o.Dir
// cannot be used; only a full disk does not matter.
func New(s generations.Store, sp *generations.Spool, o Options) (*Cache, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	c := &Cache{
		store:  s,
		spool:  sp,
		blocks: newBlocks(o.Memory),
		local:  make(map[string]weak.Pointer[pack.Reader]),

		localMost: localShare(),
		ahead:     semaphore.NewWeighted(aheadLimit),
	}
	if err := c.openChunks(o); err != nil {
		return nil, err
	}
	var err error
	open := int(max(openPacks*min(o.Memory, DefaultMemory)/DefaultMemory, 1))
	if c.packs, err = lru.New[objectID, *pack.Reader](open); err == nil {
		c.objects, err = lru.New[objectID, *object](open)
	}
	if err != nil {
		panic("cache: " + err.Error()) // only a size below one is refused
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

func (c *Cache) openChunks(o Options) error {
	if o.Dir == "" {
		c.chunks = newMemoryChunks(o.Memory)
		return nil
	}
	s, err := openSlab(o.Dir, o.MaxBytes, time.Now)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		c.noSlab = err
		c.chunks = newMemoryChunks(o.Memory)
		return nil
	case err != nil:
		return err
	}
	c.slab = s
	c.chunks = fallbackChunks{s, newMemoryChunks(spareMemory)}
	return nil
}

// Close ends all fetches and releases the chunk file. Views and packs that are
// still in use fail from now on where they would have to fetch.
func (c *Cache) Close() error {
	c.backMu.Lock()
	c.closed = true
	c.backMu.Unlock()
	c.cancel()
	c.background.Wait()
	return c.chunks.close()
}

// Stats returns what c has done so far.
func (c *Cache) Stats() Stats {
	s := Stats{
		Gets:       c.gets.Load(),
		Bytes:      c.bytes.Load(),
		ReadAheads: c.readAheads.Load(),
		Hits:       c.hits.Load(),
		Misses:     c.misses.Load(),
		DiskError:  c.noSlab,
	}
	if c.slab != nil {
		s.DiskError = c.slab.lastError()
	}
	return s
}

// goBackground runs f in a goroutine that Close waits for, or returns false
// when c is closed.
func (c *Cache) goBackground(f func()) bool {
	c.backMu.Lock()
	defer c.backMu.Unlock()
	if c.closed {
		return false
	}
	c.background.Go(f)
	return true
}

// OpenPack returns the pack in o, the same for everybody who asks while it is
// in use. An object that is not there any more matches fs.ErrNotExist: for a
// local one that means it has been shipped meanwhile and a new plan is needed.
//
// A pack needs no closing. A local one keeps its file open, so that shipping
// may remove it meanwhile, until nobody refers to the pack any more.
func (c *Cache) OpenPack(ctx context.Context, o generations.PlanObject) (*pack.Reader, error) {
	id := newObjectID(c.store.String(), o.Key(), o.Size)
	if r, ok := c.opened(id, o); ok {
		return r, nil
	}
	// Whoever gives up waiting leaves the others waiting for the same opening,
	// which therefore obeys no single caller's context.
	done := c.opening.DoChan(string(id[:]), func() (any, error) {
		if r, ok := c.opened(id, o); ok {
			return r, nil
		}
		if o.Local {
			return c.openLocal(id, o)
		}
		return c.openStored(id, o)
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case res := <-done:
		if res.Err != nil {
			return nil, res.Err
		}
		return res.Val.(*pack.Reader), nil
	}
}

// opened returns the pack in o if it is open.
func (c *Cache) opened(id objectID, o generations.PlanObject) (*pack.Reader, bool) {
	if !o.Local {
		return c.packs.Get(id)
	}
	c.localMu.Lock()
	defer c.localMu.Unlock()
	r := c.local[o.Key()].Value()
	return r, r != nil
}

func (c *Cache) openStored(id objectID, o generations.PlanObject) (*pack.Reader, error) {
	src, memory := c.stored(o.Key(), o.Size)
	options := pack.ReaderOptions{
		Memory: memory,
		Elsewhere: func(place pack.Place, size int64) (io.ReaderAt, pack.Memory) {
			return c.stored(generations.KeyAt(o.Client, place), size)
		},
	}
	if o.Kind == generations.SnapshotObject {
		options.Tail = mapTail
	}
	src.keepEnd(endOf(o))
	var r *pack.Reader
	err := believe(src, func() (err error) {
		r, err = pack.Open(src, o.Size, o.Place(), options)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", o.Key(), err)
	}
	c.packs.Add(id, r)
	return r, nil
}

// mapTail is how much of the end of a snapshot or map is read to open it: the
// root of a map of 30 GB fits in it.
const mapTail = 64 << 10

// A view needs of a segment its root, an index block and perhaps one of the
// transaction table, which lie in front of it; of a small object it will need
// about everything. What is likely to be there comes with the end.
const (
	wholeObject = 64 << 10
	mostEnd     = 512 << 10
	// perTxn is how many bytes of a merged segment tell of a transaction, if it has
	// written a handful of pages.
	perTxn = 48
)

// endOf returns how many bytes of the end of o to fetch when it is opened.
func endOf(o generations.PlanObject) int64 {
	switch {
	case o.Size <= wholeObject:
		return o.Size
	case o.Kind == generations.SnapshotObject: // leaves, or an index
		return max(mapTail, min(o.Size/128, mostEnd))
	case o.Last != 0:
		return min(pack.TailSize+perTxn*int64(o.Last-o.First+1), mostEnd)
	}
	return pack.TailSize
}

// stored returns the object of the store with that key, the same for everybody
// while it is in use, and what keeps its blocks.
func (c *Cache) stored(key string, size int64) (*object, objectBlocks) {
	id := newObjectID(c.store.String(), key, size)
	o, ok := c.objects.Get(id)
	if !ok {
		o = c.object(key, size)
		if other, ok, _ := c.objects.PeekOrAdd(id, o); ok {
			o = other
		}
	}
	return o, objectBlocks{c.blocks, id, o}
}
