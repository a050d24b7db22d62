package live

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"github.com/walback/walback/wal"
)

// recorder is a sink that lays every transaction over a copy of the database
// and keeps a digest of each state. It survives the mount, as a spool does.
type recorder struct {
	mu          sync.Mutex
	generations []*recorded
	queue       []*wal.Txn
	failing     error // what Save and Begin return
	unsettled   bool  // what Settled does not return
	resumed     int   // calls of Resume
	err         error
}

// recorded is one generation.
type recorded struct {
	mark   wal.Mark
	fuzzy  bool
	parent wal.TXID // of the generation before; zero: it began with an image
	pages  []byte
	states map[wal.TXID]state
	kept   []kept // of the newest states, ascending
}

// kept is a state from which a generation can be forked.
type kept struct {
	wal.TxnInfo
	pages []byte
}

// keeps is how many of those a recorder keeps.
const keeps = 16

type state struct {
	wal.TxnInfo
	digest [sha256.Size]byte
}

func (r *recorder) current() *recorded { return r.generations[len(r.generations)-1] }

func (r *recorder) Resume() (wal.Past, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resumed++
	if len(r.generations) == 0 {
		return wal.Past{}, false
	}
	g := r.current()
	past := wal.Past{Mark: g.mark, Ended: r.err != nil, Sums: func(id wal.TXID) (*wal.PageSums, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		k, ok := g.keep(id)
		if !ok {
			return nil, fmt.Errorf("no state %d", id)
		}
		return sumsOf(k.pages, g.mark.PageSize), nil
	}}
	for _, k := range g.kept {
		past.States = append(past.States, k.TxnInfo)
	}
	return past, true
}

// keep returns a state that is kept.
func (g *recorded) keep(id wal.TXID) (kept, bool) {
	for _, k := range g.kept {
		if k.ID == id {
			return k, true
		}
	}
	return kept{}, false
}

func sumsOf(pages []byte, pageSize int) *wal.PageSums {
	sums := wal.NewPageSums(pageSize)
	p := wal.Pgno(1)
	for page := range slices.Chunk(pages, pageSize) {
		sums.Set(p, wal.PageSum(p, page))
		p++
	}
	return sums
}

func (r *recorder) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failing
}

func (r *recorder) Fork(from wal.TXID, first *wal.Txn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing != nil {
		return r.failing
	}
	old := r.current()
	k, ok := old.keep(from)
	if !ok || first.Time <= old.mark.Txn.Time {
		return fmt.Errorf("transaction %d of %s cannot fork %d", first.ID, first.Time, from)
	}
	mark := old.mark
	mark.Txn.ID = from
	r.queue, r.err = nil, nil
	r.generations = append(r.generations, &recorded{
		mark: mark, parent: from, pages: slices.Clone(k.pages), states: make(map[wal.TXID]state),
	})
	return r.apply(first)
}

func (r *recorder) TakeBack(id wal.TXID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.queue); n > 0 && r.queue[n-1].ID == id {
		r.queue = r.queue[:n-1]
		return true
	}
	return false
}

func (r *recorder) Begin(base wal.Base) error {
	var pages []byte
	next := wal.Pgno(1)
	for p, err := range base.Pages {
		if err != nil {
			return err
		}
		if p.Pgno != next {
			return fmt.Errorf("page %d where %d was due", p.Pgno, next)
		}
		next++
		pages = append(pages, p.Data...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing != nil {
		r.err = r.failing
		return r.err
	}
	r.queue, r.err = nil, nil
	r.generations = append(r.generations, &recorded{
		mark: base.Mark, fuzzy: base.Fuzzy, pages: pages, states: make(map[wal.TXID]state),
	})
	if !base.Fuzzy {
		return r.record(base.Mark.Txn)
	}
	return nil
}

func (r *recorder) Append(txns ...*wal.Txn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, txns...)
}

func (r *recorder) Save() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing != nil {
		r.err = r.failing
		return r.err
	}
	for _, txn := range r.queue {
		if err := r.apply(txn); err != nil {
			r.err = err
			return err
		}
	}
	r.queue = nil
	return r.err
}

func (r *recorder) apply(txn *wal.Txn) error {
	g := r.current()
	if txn.ID != g.mark.Txn.ID+1 || txn.Time <= g.mark.Txn.Time {
		return fmt.Errorf("transaction %d of %s behind %d of %s", txn.ID, txn.Time, g.mark.Txn.ID, g.mark.Txn.Time)
	}
	size := int(txn.Size) * txn.PageSize
	if size > len(g.pages) {
		g.pages = append(g.pages, make([]byte, size-len(g.pages))...)
	}
	g.pages = g.pages[:size]
	for _, f := range txn.Frames {
		page := g.pages[int(f.Pgno-1)*txn.PageSize:][:txn.PageSize]
		if n, err := txn.Source.ReadAt(page, f.Off); n < len(page) {
			return fmt.Errorf("page %d of transaction %d: %w", f.Pgno, txn.ID, err)
		}
	}
	g.mark = wal.Mark{Txn: txn.TxnInfo, PageSize: txn.PageSize, Log: txn.End}
	return r.record(txn.TxnInfo)
}

// record keeps the state after a transaction, whose checksum must be that of
// the pages.
func (r *recorder) record(txn wal.TxnInfo) error {
	g := r.current()
	sum := sumsOf(g.pages, g.mark.PageSize).Total()
	if sum != txn.Checksum {
		return fmt.Errorf("transaction %d: the pages have checksum %s, captured was %s", txn.ID, sum, txn.Checksum)
	}
	g.states[txn.ID] = state{txn, sha256.Sum256(g.pages)}
	g.kept = append(g.kept, kept{txn, slices.Clone(g.pages)})
	g.kept = g.kept[max(len(g.kept)-keeps, 0):]
	return nil
}

func (r *recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *recorder) Settled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue) == 0 && r.err == nil && !r.unsettled
}

func (r *recorder) Close() error { return r.Save() }

// last returns the newest state of the newest generation.
func (r *recorder) last() (state, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.generations) == 0 {
		return state{}, false
	}
	s, ok := r.current().states[r.current().mark.Txn.ID]
	return s, ok
}

// count returns how many states were captured.
func (r *recorder) count() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.generations {
		n += len(g.states)
	}
	return n
}

// has reports whether a state with the content was captured, and of which
// transaction.
func (r *recorder) has(content []byte) (state, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	digest := sha256.Sum256(content)
	for _, g := range r.generations {
		for _, s := range g.states {
			if s.digest == digest {
				return s, true
			}
		}
	}
	return state{}, false
}

// holds reports whether the newest state is content. Bytes 18 and 19 and the
// counters, which switching the journal mode changes, count too.
func (r *recorder) holds(content []byte) bool {
	s, ok := r.last()
	return ok && s.digest == sha256.Sum256(content)
}

// fail makes the sink fail from now on, or work again.
func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing = err
}

// saved is what a killed process leaves of a generation.
type saved struct {
	mark  wal.Mark
	pages []byte
}

func (r *recorder) mark() saved {
	r.mu.Lock()
	defer r.mu.Unlock()
	return saved{r.current().mark, bytes.Clone(r.current().pages)}
}

// rewind forgets what was saved later.
func (r *recorder) rewind(to saved) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.current()
	g.mark, g.pages = to.mark, to.pages
	g.kept = slices.DeleteFunc(g.kept, func(k kept) bool { return k.ID > to.mark.Txn.ID })
	for id := range g.states {
		if id > to.mark.Txn.ID {
			delete(g.states, id)
		}
	}
}
