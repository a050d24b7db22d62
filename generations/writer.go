package generations

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walback/walback/wal"
)

// Writer takes what is captured of one database. It is what a live mount calls
// a sink: its methods Resume, Begin, Fork, Append, TakeBack, Save and Close are
// called one at a time, wait for local disk at most, and fail without harm to what has been
// saved. A Writer whose generation has ended says so (Err, and every Save)
// until Begin starts another.
type Writer struct {
	client  string
	shipper *Shipper
	turn    turn // the scheduler's

	// saving is held while queued transactions are read and written to the
	// spool, by the live mount at a gate or by the shipper. It is taken before mu.
	saving sync.Mutex
	// stating is held while the state file is written. It is taken before mu.
	stating sync.Mutex

	mu     sync.Mutex
	file   string // the database's own file name
	open   bool
	queue  []*wal.Txn // appended and not saved, of the last lineage
	queued int64      // bytes of pages in queue
	times  times      // of those in queue
	states states     // of those that are saved; guarded by saving
	// lineages that are not wholly shipped, oldest first; the last one always.
	lineages []*lineage
	held     int64 // what the shipper's room has been told of
	newest   ID    // generation that the store has been seen to have
	fenced   error // another writer has the client: no new generation either
	failed   error // of the last attempt to ship, nil when it succeeded

	// Of the scheduler's turns: one at a time.
	pace     Pace
	attempts int // failed in a row
	retryAt  time.Time
	// unsettled: the state file lacks what the store has got, or garbage, keys
	// of the spool that are not needed any more, is to be removed.
	unsettled bool
	garbage   []string

	unusable atomic.Pointer[error] // what Err returns
}

// Client returns the client that the database is.
func (w *Writer) Client() string { return w.client }

// current returns the newest lineage, nil when there is none. The caller holds mu.
func (w *Writer) current() *lineage {
	if len(w.lineages) == 0 {
		return nil
	}
	return w.lineages[len(w.lineages)-1]
}

// Err returns nil while transactions can be appended. Otherwise it tells why
// not: the error matches ErrBroken when a new generation has to begin,
// ErrSpoolFull when one has to but cannot yet (see Ready), and ErrFenced when
// another writer owns the database. It is cheap.
func (w *Writer) Err() error {
	if p := w.unusable.Load(); p != nil {
		return *p
	}
	return nil
}

// Append adds committed transactions. It returns at once; the pages are read
// at the next Save. A transaction that an earlier process had appended gets the
// time that it had then. One that does not follow the last one ends the
// generation.
func (w *Writer) Append(txns ...*wal.Txn) {
	if much := w.accept(txns); much {
		w.shipper.schedule.hasten(w)
		return
	}
	w.shipper.schedule.notify(w)
}

// accept is Append without telling the schedule. It returns true when there is
// so much by now that it is to be saved early.
func (w *Writer) accept(txns []*wal.Txn) (much bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.current()
	if g == nil || !g.usable() {
		return false // Err has told
	}
	before := w.queued
	for i, txn := range txns {
		txn.Time = w.times.recall(g.ID, txn.TxnInfo, g.last.Time)
		if txn.ID != g.last.ID+1 || txn.Time <= g.last.Time || txn.PageSize != g.PageSize {
			w.end(g, ErrBroken, fmt.Errorf("transaction %d of %s (pages of %d bytes) cannot follow %d of %s (pages of %d bytes)",
				txn.ID, txn.Time, txn.PageSize, g.last.ID, g.last.Time, g.PageSize))
			txns = txns[:i]
			break
		}
		w.queued += rawBytes(txn)
		g.last = txn.TxnInfo
	}
	w.queue = append(w.queue, txns...)
	w.told(w.times.note(g.ID, txns))
	return before < earlySave && w.queued >= earlySave
}

// told says when the times of unsaved transactions could not be kept: capture
// does not depend on them. The caller holds mu.
func (w *Writer) told(err error) {
	if err != nil {
		w.shipper.options.Logger.Warn("if walback is killed now, the newest commits will have the time of the next start", "client", w.client, "error", err)
	}
}

// rawBytes returns what the pages of txn come to.
func rawBytes(txn *wal.Txn) int64 { return int64(len(txn.Frames)) * int64(txn.PageSize) }

// end makes g, the current lineage, take no more transactions; what has been
// appended can still be saved. What Err returns from now on matches is and
// cause. The caller holds mu.
func (w *Writer) end(g *lineage, is, cause error) {
	if g.ended == nil {
		g.ended = cause
	}
	err := fmt.Errorf("%s: generation %s: %w: %w", w.client, g.ID, is, cause)
	w.unusable.Store(&err)
}

// forget drops the transactions that are not saved. The caller holds mu.
func (w *Writer) forget(g *lineage) {
	w.queue, w.queued = nil, 0
	w.told(w.times.saved())
	g.last = g.mark.Txn
}

// Save writes every appended transaction to the spool; afterwards the log may
// be overwritten. An error ends the generation; what was saved before stays
// good and is shipped.
func (w *Writer) Save() error {
	w.saving.Lock()
	defer w.saving.Unlock()
	return w.save()
}

// save is Save. The caller holds saving.
func (w *Writer) save() error {
	for {
		w.mu.Lock()
		g, queue := w.current(), w.queue
		w.mu.Unlock()
		if len(queue) == 0 {
			return w.Err()
		}
		queue = queue[:runLength(queue)]
		changes := changesOf(g, queue) // now, because queue will be shifted
		p, err := w.writePiece(g, queue)
		if err == nil {
			err = w.saved(g, p, queue)
		}
		if err != nil {
			w.mu.Lock()
			w.end(g, endOf(err), err)
			w.forget(g)
			w.mu.Unlock()
			continue
		}
		w.toldStates(w.states.follow(g, changes))
		w.compactStates(g)
	}
}

// saved moves transactions from the queue to the pieces, unless shipping got
// stuck meanwhile.
func (w *Writer) saved(g *lineage, p piece, txns []*wal.Txn) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g.stuck != nil {
		return w.shipper.spool.remove(p.Key())
	}
	last := txns[len(txns)-1]
	g.pieces = append(g.pieces, p)
	w.account()
	g.mark = wal.Mark{Txn: last.TxnInfo, PageSize: g.PageSize, Log: last.End}
	w.queue = slices.Delete(w.queue, 0, len(txns))
	w.queued -= p.raw
	if len(w.queue) == 0 {
		w.queue = nil // lets go of a large array
		w.told(w.times.saved())
	}
	return nil
}

// Close saves and lets go of the database. What is saved goes on being shipped.
func (w *Writer) Close() error {
	err := w.Save()
	w.mu.Lock()
	w.open = false
	w.mu.Unlock()
	w.pruneIdle()
	w.shipper.schedule.notify(w)
	return err
}

// saveState writes the state file.
func (w *Writer) saveState() error {
	w.stating.Lock()
	defer w.stating.Unlock()
	st := state{Format: stateFormat, Client: w.client}
	w.mu.Lock()
	for _, g := range w.lineages {
		st.Generations = append(st.Generations, g.progress)
	}
	w.mu.Unlock()
	return w.shipper.spool.saveState(st)
}
