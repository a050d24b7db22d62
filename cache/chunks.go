package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"strconv"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// ChunkSize is the unit, in bytes, in which objects are fetched and kept. Reads
// are rounded to it, so it bounds what a random read fetches in vain.
const ChunkSize = 8 << 10

// extent is how many chunks of an object are kept, and forgotten, next to each
// other, so that what is missing later is missing in large pieces: a power of
// two up to 128.
const extent = 128

// chunkID names a chunk of an object of a store.
type chunkID [16]byte

// objectID names an object of a store; the identities of its chunks follow
// from it.
type objectID [16]byte

// newObjectID returns the identity of an object. The size is part of it so
// that an object of another size can never be answered from what is kept.
func newObjectID(store, key string, size int64) objectID {
	h := sha256.New()
	h.Write([]byte(store + "\x00" + key + "\x00" + strconv.FormatInt(size, 10)))
	id := objectID(h.Sum(nil)[:len(objectID{})])
	id[7] &^= extent - 1 // room for the number of a chunk within its extent
	return id
}

// chunk returns the identity of chunk n of the object.
func (id objectID) chunk(n int64) chunkID {
	c := chunkID(id)
	binary.BigEndian.PutUint64(c[:], binary.BigEndian.Uint64(c[:])^uint64(n))
	return c
}

// place returns the number of the chunk within its extent, and what only the
// extent decides.
func (c chunkID) place() (n uint64, of chunkID) {
	n = uint64(c[7] & (extent - 1))
	c[7] &^= extent - 1
	return n, c
}

// chunkStore keeps chunks. It may forget any of them at any time, and is safe
// for concurrent use.
type chunkStore interface {
	// get fills dst with the chunk and reports whether it is here, whole and of
	// that length. Otherwise the content of dst is undefined.
	get(id chunkID, dst []byte) bool
	// has reports whether get would likely succeed, at less cost.
	has(id chunkID) bool
	// put keeps a copy of data, and reports whether it did.
	put(id chunkID, data []byte) bool
	close() error
}

// memoryChunks is a chunkStore in memory, bounded in bytes.
type memoryChunks struct {
	mu    sync.Mutex
	lru   *byteLRU[chunkID, []byte]
	limit int64
}

func newMemoryChunks(limit int64) *memoryChunks {
	return &memoryChunks{lru: newByteLRU[chunkID, []byte](limit), limit: limit}
}

func (m *memoryChunks) get(id chunkID, dst []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.lru.get(id)
	return ok && len(data) == len(dst) && copy(dst, data) == len(dst)
}

func (m *memoryChunks) has(id chunkID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lru.lru.Contains(id)
}

func (m *memoryChunks) put(id chunkID, data []byte) bool {
	if int64(len(data)) > m.limit {
		return false
	}
	kept := append([]byte(nil), data...)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.add(id, kept, int64(len(kept)))
	return true
}

func (m *memoryChunks) close() error { return nil }

// fallbackChunks keeps in second what first will not take: a full disk costs
// the disk cache, but what was just read ahead is still found.
type fallbackChunks struct{ first, second chunkStore }

func (f fallbackChunks) get(id chunkID, dst []byte) bool {
	return f.first.get(id, dst) || f.second.get(id, dst)
}

func (f fallbackChunks) has(id chunkID) bool {
	return f.first.has(id) || f.second.has(id)
}

func (f fallbackChunks) put(id chunkID, data []byte) bool {
	return f.first.put(id, data) || f.second.put(id, data)
}

func (f fallbackChunks) close() error { return f.first.close() }

// byteLRU is an LRU bounded by the bytes its values hold. The caller locks.
type byteLRU[K comparable, V any] struct {
	lru   *simplelru.LRU[K, sized[V]]
	bytes int64
	limit int64
}

type sized[V any] struct {
	value V
	bytes int64
}

func newByteLRU[K comparable, V any](limit int64) *byteLRU[K, V] {
	l := &byteLRU[K, V]{limit: limit}
	lru, err := simplelru.NewLRU(math.MaxInt, func(_ K, v sized[V]) { l.bytes -= v.bytes })
	if err != nil {
		panic("cache: " + err.Error()) // only a size below one is refused
	}
	l.lru = lru
	return l
}

func (l *byteLRU[K, V]) get(k K) (V, bool) {
	v, ok := l.lru.Get(k)
	return v.value, ok
}

// add keeps v, which holds n bytes, and evicts what was not used for longest.
// A value above the limit is not kept.
func (l *byteLRU[K, V]) add(k K, v V, n int64) {
	l.lru.Remove(k)
	if n > l.limit {
		return
	}
	l.bytes += n
	l.lru.Add(k, sized[V]{v, n})
	for l.bytes > l.limit {
		l.lru.RemoveOldest()
	}
}
