package snapshot

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

const (
	// requestSize is the most bytes of one request: enough that the time to its
	// first byte counts for little, and few enough that many are under way.
	requestSize = 8 << 20
	// maxGap is how many bytes that nobody needs are fetched rather than asking
	// twice, the shortest gaps first, as long as they come to no more than the part
	// gapShare of what is needed.
	maxGap   = 64 << 10
	gapShare = 24
	// maxRequests is how many requests are under way at a time. Where groups lie
	// scattered, many small ones make up for the time that each takes.
	maxRequests = 256
	// supplyFirst and supplyMost bound the memory of what has been asked for and
	// is not used up, in bytes. For a disk the first is enough. Whoever waits for
	// longer than stall doubles it, up to the other.
	supplyFirst = 16 << 20
	supplyMost  = 96 << 20
	stall       = 10 * time.Millisecond
)

// supply fetches what windows need, ahead of them.
type supply struct {
	sources []source
	slots   *semaphore.Weighted // requests under way
	running sync.WaitGroup
	ctx     context.Context // of the requests; ends with the copy
	cancel  context.CancelFunc

	// Of the planner: what has not been asked for yet, and its bytes.
	wanted []want
	bytes  int64

	mu    sync.Mutex
	limit int64         // from supplyFirst to supplyMost; guarded by mu
	taken int64         // memory of requests in use; guarded by mu
	spare [][]byte      // memory of those that are not any more; guarded by mu
	freed chan struct{} // closed when there may be room, and replaced; guarded by mu
}

// want is a piece of a window.
type want struct {
	*piece
	window *window
}

// request is a run of bytes of a source that are fetched at once.
type request struct {
	source *pack.Reader
	off    int64
	size   int
	first  wal.Pgno // of the first window that needs it
	users  int      // windows that are not through with it, and its fetch; guarded by supply.mu
	buf    []byte

	mu   sync.Mutex
	have int           // bytes of buf that are there; guarded by mu
	err  error         // why no more come; guarded by mu
	more chan struct{} // closed when have or err changes, and replaced; guarded by mu
}

func newSupply(sources []source) *supply {
	s := &supply{
		sources: sources, slots: semaphore.NewWeighted(maxRequests),
		limit: supplyFirst, freed: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// end ends all requests.
func (s *supply) end() {
	s.cancel()
	s.running.Wait()
}

// add notes what w needs.
func (s *supply) add(w *window) {
	for i := range w.pieces {
		p := &w.pieces[i]
		s.wanted = append(s.wanted, want{p, w})
		s.bytes += int64(p.Stored)
	}
}

// enough reports whether so much is wanted that it should be asked for: a part
// of what there is memory for, so that several are under way.
func (s *supply) enough() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes >= s.limit/4
}

// send asks for what is wanted, as soon as there is memory for it.
func (s *supply) send(ctx context.Context) error {
	requests := s.requests()
	s.wanted, s.bytes = s.wanted[:0], 0
	sum := int64(0)
	for _, r := range requests {
		sum += int64(memoryFor(r.size))
	}
	if err := s.take(ctx, sum); err != nil {
		return err
	}
	for _, r := range requests {
		if err := s.slots.Acquire(ctx, 1); err != nil {
			return context.Cause(ctx)
		}
		r.buf = s.memory(r.size)
		s.running.Go(func() {
			err := r.source.ReadStored(s.ctx, r.buf, r.off, func(n int) { r.advance(n, nil) })
			if err != nil {
				r.advance(0, err)
			}
			s.slots.Release(1)
			s.leave(r)
		})
	}
	return nil
}

// requests puts together what lies together, at most requestSize at a time, and
// returns first what is needed first.
func (s *supply) requests() []*request {
	slices.SortFunc(s.wanted, func(a, b want) int {
		return cmp.Or(a.source-b.source, cmp.Compare(a.Off, b.Off), cmp.Compare(a.window.first, b.window.first))
	})
	bridged := s.bridged()
	var all []*request
	for i, p := range s.wanted {
		end := p.Off + int64(p.Stored)
		var r *request
		if i > 0 && s.wanted[i-1].source == p.source {
			r = all[len(all)-1]
		}
		if r == nil || p.Off > r.off+int64(r.size)+bridged || end-r.off > requestSize && p.Off >= r.off+int64(r.size) {
			r = &request{source: s.sources[p.source].Reader, off: p.Off, first: p.window.first, users: 1, more: make(chan struct{})}
			all = append(all, r)
		}
		r.size = max(r.size, int(end-r.off))
		r.first = min(r.first, p.window.first)
		p.request = r
		// The pieces of a window come in the order of their requests.
		if used := p.window.requests; len(used) == 0 || used[len(used)-1] != r {
			p.window.requests = append(used, r)
			r.users++
		}
	}
	slices.SortStableFunc(all, func(a, b *request) int { return cmp.Compare(a.first, b.first) })
	return all
}

// bridged returns how long gaps between what is wanted may be to be fetched too.
func (s *supply) bridged() int64 {
	var gaps []int64
	for i, p := range s.wanted {
		if i == 0 || s.wanted[i-1].source != p.source {
			continue
		}
		before := s.wanted[i-1]
		if gap := p.Off - before.Off - int64(before.Stored); gap > 0 && gap <= maxGap {
			gaps = append(gaps, gap)
		}
	}
	slices.Sort(gaps)
	longest, sum := int64(0), int64(0)
	for _, gap := range gaps {
		if sum += gap; sum > s.bytes/gapShare {
			break
		}
		longest = gap
	}
	return longest
}

// take waits until n more bytes may be in use. What is too much by itself may be
// when nothing else is.
func (s *supply) take(ctx context.Context, n int64) error {
	for {
		s.mu.Lock()
		if s.taken == 0 || s.taken+n <= s.limit {
			s.taken += n
			s.mu.Unlock()
			return nil
		}
		freed := s.freed
		s.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// memoryFor returns how much memory a request of n bytes has: of few sizes, so
// that the next can use it.
func memoryFor(n int) int {
	unit := 16 << 10
	for unit < n/8 {
		unit *= 2
	}
	return (n + unit - 1) / unit * unit
}

// memory returns memory for a request of n bytes, which take has allowed.
func (s *supply) memory(n int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := memoryFor(n)
	if i := slices.IndexFunc(s.spare, func(b []byte) bool { return cap(b) == size }); i >= 0 {
		b := s.spare[i]
		s.spare = slices.Delete(s.spare, i, i+1)
		return b[:n]
	}
	kept := int64(0)
	for _, b := range s.spare {
		kept += int64(cap(b))
	}
	for len(s.spare) > 0 && s.taken+kept > s.limit {
		kept -= int64(cap(s.spare[0]))
		s.spare = slices.Delete(s.spare, 0, 1)
	}
	return make([]byte, n, size)
}

// leave tells that one user of r less is there.
func (s *supply) leave(r *request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.users--; r.users > 0 {
		return
	}
	s.taken -= int64(cap(r.buf))
	s.spare = append(s.spare, r.buf[:0])
	r.buf = nil
	s.room()
}

// release tells that w is through with what was fetched for it.
func (s *supply) release(w *window) {
	for _, r := range w.requests {
		s.leave(r)
	}
	w.requests = nil
}

// room lets those who wait for room look again. s.mu is held.
func (s *supply) room() {
	close(s.freed)
	s.freed = make(chan struct{})
}

// grow has more be under way.
func (s *supply) grow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = min(2*s.limit, supplyMost)
	s.room()
}

// wait returns the stored bytes of a piece as soon as they have come. They are
// valid until its window is released.
func (s *supply) wait(ctx context.Context, p *piece) ([]byte, error) {
	r, from := p.request, int(p.Off-p.request.off)
	for {
		have, more, err := r.state()
		if have >= from+p.Stored {
			return r.buf[from : from+p.Stored], nil
		}
		if err != nil {
			return nil, err
		}
		timer := time.NewTimer(stall)
		select {
		case <-more:
		case <-timer.C:
			s.grow()
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		timer.Stop()
		if err != nil {
			return nil, err
		}
	}
}

func (r *request) state() (have int, more <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.have, r.more, r.err
}

// advance tells that n bytes are there, or why no more come.
func (r *request) advance(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.have, r.err = max(r.have, n), err
	close(r.more)
	r.more = make(chan struct{})
}
