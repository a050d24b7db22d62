package generations

import (
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Bounds of the spool where none is given: a tenth of its filesystem, but
// within these.
const (
	leastSpool = 64 << 20
	mostSpool  = 16 << 30
)

// reserve is what the spool leaves free of its filesystem, because applications
// need the last bytes more than their past does: a hundredth, but not more than
// this.
const reserve = 64 << 20

// room bounds what waits in the spool to be shipped, of all databases together.
// The image that the newest generation of a database begins with does not count:
// without it there would be no past at all.
type room struct {
	spool  *Spool
	limit  int64 // bytes
	logger *slog.Logger
	copies *copies // of what is in the store: they give way

	mu   sync.Mutex
	held int64 // bytes that wait
	full bool  // until less than half of the limit waits
}

// newRoom returns a room of limit bytes, or of as many as are the default.
func newRoom(s *Spool, limit int64, log *slog.Logger) *room {
	if limit <= 0 {
		limit = leastSpool
		if size, _, err := s.disk(); err == nil {
			limit = min(max(size/10, leastSpool), mostSpool)
		}
	}
	return &room{spool: s, limit: limit, logger: log, copies: newCopies(s, limit, log)}
}

// disk returns the size of the filesystem that the spool is on, and how much of
// it can be written to, in bytes.
func (s *Spool) disk() (size, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, 0, fmt.Errorf("spool: %w", err)
	}
	blocks := st.Bavail
	if os.Geteuid() == 0 {
		blocks = st.Bfree
	}
	return int64(st.Blocks) * st.Bsize, int64(blocks) * st.Bsize, nil
}

// spare returns an error that is ErrSpoolFull when n bytes more would take from
// the filesystem what is left for others.
func (s *Spool) spare(n int64) error {
	size, free, err := s.disk()
	if err != nil {
		return err
	}
	if keep := min(size/100, reserve); free-n < keep {
		return tell(ErrSpoolFull, "spool: no space left on device: the last %d bytes are left for others", keep)
	}
	return nil
}

// hold adds n, which may be less than zero, to what waits.
func (r *room) hold(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held += n
}

// admit returns an error that is ErrSpoolFull when n bytes more cannot wait. As
// long as less than half of the limit waits they can, however many they are: a
// transaction may be larger than the limit.
func (r *room) admit(n int64) error {
	r.mu.Lock()
	held := r.held
	full := held >= r.limit/2 && held+n > r.limit
	if full {
		r.fill()
	}
	r.mu.Unlock()
	if full {
		return tell(ErrSpoolFull, "%d bytes wait in the spool, which may hold %d: no room for %d", held, r.limit, n)
	}
	r.copies.leave(r.limit - held - n)
	return r.spare(n)
}

// spare is the spool's, once the copies have given way.
func (r *room) spare(n int64) error {
	if r.spool.spare(n) == nil {
		return nil
	}
	r.copies.leave(0)
	return r.spool.spare(n)
}

// keep keeps a copy of seg, which is stored as o, where what waits leaves room.
func (r *room) keep(o Object, seg segment) error {
	r.mu.Lock()
	left := r.limit - r.held
	r.mu.Unlock()
	return r.copies.keep(o, seg, left)
}

// fill notes that the spool is full. The caller holds mu.
func (r *room) fill() {
	if !r.full {
		r.full = true
		r.logger.Error("the spool is full: what is committed is not recorded until half of it is shipped", "limit", r.limit, "waiting", r.held)
	}
}

// ready returns an error that is ErrSpoolFull while no generation may begin.
func (r *room) ready() error {
	r.mu.Lock()
	full := r.full
	r.mu.Unlock()
	if full {
		return tell(ErrSpoolFull, "the spool has been full (%d bytes): capture begins again when half of it is shipped", r.limit)
	}
	return r.spare(0)
}

// emptied reports whether the spool has room again since it was full.
func (r *room) emptied() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.full || r.held >= r.limit/2 {
		return false
	}
	r.full = false
	r.logger.Info("the spool has room again", "waiting", r.held)
	return true
}
