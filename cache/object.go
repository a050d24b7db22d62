package cache

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/walback/walback/wal/pack"
)

const (
	// bridge is how many kept chunks between missing ones are fetched again
	// rather than asking twice.
	bridge = 8
	// maxRuns is how many requests one window of readahead may take.
	maxRuns = 8
)

// object is an io.ReaderAt over an object of the store that answers from the
// chunks kept and fetches the others. It is safe for concurrent use.
type object struct {
	cache *Cache
	key   string
	size  int64 // bytes
	id    objectID
	// distrusted counts those who found damage and want nothing that is kept.
	distrusted atomic.Int32

	mu sync.Mutex
	// fetching holds, by chunk number, the fetch that brings it. Nobody else
	// fetches a chunk that is in here.
	fetching map[int64]*fetch
	scans    scans
}

var _ io.ReaderAt = (*object)(nil)
var _ pack.AroundReader = (*object)(nil)
var _ pack.AheadReader = (*object)(nil)

func (c *Cache) object(key string, size int64) *object {
	return &object{
		cache:    c,
		key:      key,
		size:     size,
		id:       newObjectID(c.store.String(), key, size),
		fetching: make(map[int64]*fetch),
	}
}

// piece is the part of a read that lies in one chunk.
type piece struct {
	p     []byte
	off   int64
	fetch *fetch // brings it
}

// ReadAt returns the bytes kept or fetched, else the store's error, wrapped. A
// store that gives fewer bytes than the object has is an error, not io.EOF.
func (o *object) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading %s: negative offset %d", o.key, off)
	}
	n := int(max(0, min(int64(len(p)), o.size-off)))
	if err := o.read(p[:n], off); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (o *object) read(p []byte, off int64) error {
	pieces := o.readKept(p, off)
	o.mu.Lock()
	mine := o.claim(pieces)
	ahead := o.scans.note(off, int64(len(p)), len(mine) > 0)
	o.mu.Unlock()

	if ahead.length > 0 {
		o.readAhead(ahead)
	}
	for i, f := range mine {
		if i == len(mine)-1 || !o.cache.goBackground(func() { o.run(f) }) {
			o.run(f)
		}
	}
	for _, m := range pieces {
		if err := m.fetch.wait(m.p, m.off); err != nil {
			return err
		}
	}
	return nil
}

// ReadAround implements pack.AroundReader.
func (o *object) ReadAround(p []byte, off, begin, end int64) error {
	if o.distrusted.Load() == 0 && !o.keeps(off, int64(len(p))) {
		begin -= begin % ChunkSize
		o.readAhead(span{begin, end - begin})
	}
	_, err := o.ReadAt(p, off)
	return err
}

// ReadAhead implements pack.AheadReader.
func (o *object) ReadAhead(off, n int64) {
	begin := off - off%ChunkSize
	o.readAhead(span{begin, off + n - begin})
}

// keepEnd fetches what is not kept of the last n bytes. What fails is met again by
// who reads it.
func (o *object) keepEnd(n int64) {
	begin := max(0, o.size-n)
	begin -= begin % ChunkSize
	if o.distrusted.Load() > 0 {
		return
	}
	for _, run := range o.missing(span{begin, o.size - begin}) {
		o.readAheadRun(run.first, run.end, func(f func()) bool { f(); return true })
	}
}

// keeps reports whether n bytes from off on are kept.
func (o *object) keeps(off, n int64) bool {
	for chunk := off / ChunkSize; chunk*ChunkSize < off+n; chunk++ {
		if !o.cache.chunks.has(o.id.chunk(chunk)) {
			return false
		}
	}
	return true
}

// readKept fills what it can of p from chunks that are kept and returns the
// pieces that are missing.
func (o *object) readKept(p []byte, off int64) (missing []piece) {
	var whole []byte // for chunks of which only a part is wanted
	for len(p) > 0 {
		begin := off - off%ChunkSize
		size := min(ChunkSize, o.size-begin)
		part := p[:min(int64(len(p)), begin+size-off)]
		kept := false
		if o.distrusted.Load() == 0 {
			id := o.id.chunk(begin / ChunkSize)
			if int64(len(part)) == size {
				kept = o.cache.chunks.get(id, part)
			} else {
				if whole == nil {
					whole = make([]byte, ChunkSize)
				}
				if kept = o.cache.chunks.get(id, whole[:size]); kept {
					copy(part, whole[off-begin:size])
				}
			}
		}
		if kept {
			o.cache.hits.Add(1)
		} else {
			o.cache.misses.Add(1)
			missing = append(missing, piece{p: part, off: off})
		}
		p, off = p[len(part):], off+int64(len(part))
	}
	return missing
}

// claim finds the fetch that brings each piece. Those it returns are new: the
// caller must run them. o.mu is held.
func (o *object) claim(pieces []piece) (mine []*fetch) {
	fresh := o.distrusted.Load() > 0
	for first := 0; first < len(pieces); {
		chunk := pieces[first].off / ChunkSize
		if f := o.fetching[chunk]; f != nil && (f.fresh || !fresh) && !f.failed() {
			pieces[first].fetch = f
			first++
			continue
		}
		// As far as nobody else fetches, with what is kept in short gaps.
		last, next := chunk, first+1
		for ; next < len(pieces); next++ {
			to := pieces[next].off / ChunkSize
			if to-last > bridge+1 || o.firstFetched(last+1, to+1) <= to {
				break
			}
			last = to
		}
		f := o.begin(chunk, last+1, fresh)
		for i := first; i < next; i++ {
			pieces[i].fetch = f
		}
		mine = append(mine, f)
		first = next
	}
	return mine
}

// firstFetched returns the first chunk from first to end (excluded) that is
// being fetched, end when none is. o.mu is held.
func (o *object) firstFetched(first, end int64) int64 {
	for first < end && o.fetching[first] == nil {
		first++
	}
	return first
}

// begin registers a fetch of the chunks from first to end (excluded). o.mu is
// held.
func (o *object) begin(first, end int64, fresh bool) *fetch {
	off := first * ChunkSize
	f := newFetch(off, min(end*ChunkSize, o.size)-off, fresh)
	for chunk := first; chunk < end; chunk++ {
		o.fetching[chunk] = f
	}
	return f
}

// run runs a fetch. The chunks are kept before they are no longer "being
// fetched", so that whoever looks in between finds them in one place or the other.
func (o *object) run(f *fetch) {
	f.run(o.cache.ctx, o)
	o.mu.Lock()
	defer o.mu.Unlock()
	for chunk := range f.chunks() {
		if o.fetching[chunk] == f {
			delete(o.fetching, chunk)
		}
	}
}

// readAhead begins to fetch what a scan will read next and is not kept. It is
// skipped when too much is being read ahead: then the reads fetch for
// themselves.
func (o *object) readAhead(s span) {
	if o.distrusted.Load() > 0 {
		return
	}
	for _, run := range o.missing(s) {
		if !o.readAheadRun(run.first, run.end, o.cache.goBackground) {
			return
		}
	}
}

// run is some chunks in a row.
type run struct{ first, end int64 }

// missing returns what is not kept of s, together with what is kept in short
// gaps: a request costs more than the bytes.
func (o *object) missing(s span) []run {
	var runs []run
	end := (min(s.off+s.length, o.size) + ChunkSize - 1) / ChunkSize
	for n := (s.off + ChunkSize - 1) / ChunkSize; n < end; n++ {
		switch last := len(runs) - 1; {
		case o.cache.chunks.has(o.id.chunk(n)):
		case last >= 0 && n-runs[last].end <= bridge:
			runs[last].end = n + 1
		case len(runs) == maxRuns:
			return runs
		default:
			runs = append(runs, run{n, n + 1})
		}
	}
	return runs
}

// readAheadRun begins to fetch the chunks from first to end (excluded), up to
// where others fetch already; false when too much is being read ahead. begin has
// something done, or returns false when it cannot.
func (o *object) readAheadRun(first, end int64, begin func(func()) bool) bool {
	o.mu.Lock()
	for first < end && o.fetching[first] != nil {
		first++
	}
	end = o.firstFetched(first, end)
	n := (end - first) * ChunkSize
	if n == 0 || !o.cache.ahead.TryAcquire(n) {
		o.mu.Unlock()
		return n == 0
	}
	f := o.begin(first, end, false)
	o.mu.Unlock()
	o.cache.readAheads.Add(1)
	run := func() {
		defer o.cache.ahead.Release(n)
		o.run(f)
	}
	if !begin(run) {
		run()
	}
	return true
}
