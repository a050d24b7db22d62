package cache

import (
	"encoding/binary"
	"errors"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/walback/walback/wal/pack"
)

// blocks keeps decoded blocks of all objects in memory, bounded in bytes, and
// decodes each once however many ask for it.
type blocks struct {
	mu      sync.Mutex
	lru     *byteLRU[blockKey, any]
	loading singleflight.Group
}

type blockKey struct {
	object objectID
	off    int64 // bytes from the beginning of the object
}

func (k blockKey) String() string {
	return string(binary.BigEndian.AppendUint64(k.object[:], uint64(k.off)))
}

func newBlocks(limit int64) *blocks {
	return &blocks{lru: newByteLRU[blockKey, any](limit)}
}

func (b *blocks) kept(k blockKey) (any, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lru.get(k)
}

// objectBlocks is the pack.Memory of one object.
type objectBlocks struct {
	*blocks
	id objectID
	// source is what the object is read from; nil for a local one, of which
	// nothing is kept that could be doubted.
	source *object
}

var _ pack.Memory = objectBlocks{}

// Get returns the block at off, which load reads and decodes.
func (b objectBlocks) Get(off int64, load func() (any, int, error)) (any, error) {
	k := blockKey{b.id, off}
	if v, ok := b.kept(k); ok {
		return v, nil
	}
	v, err, _ := b.loading.Do(k.String(), func() (any, error) {
		// It may have been loaded since we looked.
		if v, ok := b.kept(k); ok {
			return v, nil
		}
		var v any
		var n int
		err := believe(b.source, func() (err error) {
			v, n, err = load()
			return err
		})
		if err != nil {
			return nil, err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.lru.add(k, v, int64(n))
		return v, nil
	})
	return v, err
}

// believe does read, and when what it read was corrupt does it again with
// everything fetched anew: the damage may be in what was kept.
func believe(source *object, read func() error) error {
	err := read()
	if source == nil || !errors.Is(err, pack.ErrCorrupt) {
		return err
	}
	source.distrusted.Add(1)
	defer source.distrusted.Add(-1)
	return read()
}
