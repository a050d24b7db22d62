package generations

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
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
	// lineages that are not wholly shipped, oldest first; the last one always.
	lineages []*lineage
	newest   ID    // generation that the store has been seen to have
	fenced   error // another writer has the client: no new generation either
	failed   error // of the last attempt to ship, nil when it succeeded

	// Of the scheduler's turns: one at a time.
	began    time.Time // when the last segment's Put began
	attempts int       // failed in a row
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
// not: the error matches ErrBroken when a new generation has to begin and
// ErrFenced when another writer owns the database. It is cheap.
func (w *Writer) Err() error {
	if p := w.unusable.Load(); p != nil {
		return *p
	}
	return nil
}

// Resume saves what has been appended and returns what is kept of the newest
// transactions; false when there is nothing at all.
func (w *Writer) Resume() (wal.Past, bool) {
	w.saving.Lock()
	defer w.saving.Unlock()
	w.save() // Ended tells when that failed
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.current()
	if g == nil {
		return wal.Past{}, false
	}
	return wal.Past{Mark: g.mark, Ended: !g.usable() || g.File != w.file}, true
}

// Append adds a committed transaction. It returns at once; the pages are read
// at the next Save. A transaction that an earlier process had appended gets the
// time that it had then. One that does not follow the last one ends the
// generation.
func (w *Writer) Append(txn *wal.Txn) {
	w.mu.Lock()
	g := w.current()
	if g == nil || !g.usable() {
		w.mu.Unlock()
		return // Err has told
	}
	txn.Time = w.times.recall(g.ID, txn.TxnInfo, g.last.Time)
	if txn.ID != g.last.ID+1 || txn.Time <= g.last.Time || txn.PageSize != g.PageSize {
		w.end(g, ErrBroken, fmt.Errorf("transaction %d of %s (pages of %d bytes) cannot follow %d of %s (pages of %d bytes)",
			txn.ID, txn.Time, txn.PageSize, g.last.ID, g.last.Time, g.PageSize))
		w.mu.Unlock()
		return
	}
	w.queue = append(w.queue, txn)
	before := w.queued
	w.queued += rawBytes(txn)
	much := before < earlySave && w.queued >= earlySave
	g.last = txn.TxnInfo
	w.told(w.times.note(g.ID, txn.TxnInfo))
	w.mu.Unlock()
	if much {
		w.shipper.schedule.hasten(w)
		return
	}
	w.shipper.schedule.notify(w)
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
		p, err := w.shipper.spool.writePiece(w.client, g.ID, queue)
		if err == nil {
			err = w.saved(g, p, queue)
		}
		if err != nil {
			w.mu.Lock()
			w.end(g, ErrBroken, err)
			w.forget(g)
			w.mu.Unlock()
		}
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

// Begin starts a new generation from an image of the database and returns when
// the image is in the spool. Transactions of the generation before that have
// been saved are still shipped, first.
func (w *Writer) Begin(base wal.Base) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	w.save() // what can still be had of the generation before; Err tells

	w.mu.Lock()
	if w.fenced != nil {
		w.mu.Unlock()
		return w.Err()
	}
	after, file := w.newest, w.file
	if g := w.current(); g != nil {
		after = max(after, g.ID)
		if g.ended == nil {
			w.end(g, ErrBroken, errors.New("a new generation follows"))
		}
	}
	w.mu.Unlock()

	g, err := w.shipper.spool.writeBase(w.client, file, NewID(base.Mark.Txn.Time, after), base)
	if err == nil {
		w.mu.Lock()
		w.lineages = append(w.lineages, g)
		w.times.known = nil
		w.mu.Unlock()
		err = w.saveState()
	}
	if err != nil {
		err = fmt.Errorf("%s: begin a generation: %w", w.client, err)
		return errors.Join(err, w.abandon(g))
	}
	w.unusable.Store(nil)
	w.shipper.schedule.notify(w)
	return nil
}

// abandon takes back a generation that was begun by Begin and did not get into
// the state file.
func (w *Writer) abandon(g *lineage) error {
	if g == nil {
		return nil
	}
	w.mu.Lock()
	w.lineages = slices.DeleteFunc(w.lineages, func(l *lineage) bool { return l == g })
	w.mu.Unlock()
	return errors.Join(
		w.shipper.spool.remove(g.object(w.client, ManifestObject).Key()),
		w.shipper.spool.remove(g.object(w.client, SnapshotObject).Key()))
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

// writeBase writes the manifest and the image that a generation begins with.
func (s *Spool) writeBase(client, file string, id ID, base wal.Base) (*lineage, error) {
	m := Manifest{
		Format: manifestFormat, File: file, PageSize: base.Mark.PageSize,
		Created: base.Mark.Txn.Time, Writer: s.writer,
	}
	g := &lineage{
		progress: progress{ID: id, File: file, PageSize: base.Mark.PageSize, Base: base.Mark.Txn.ID, Mark: base.Mark},
		manifest: m.Encode(), last: base.Mark.Txn, mark: base.Mark,
	}
	if err := s.writeImage(g.object(client, SnapshotObject), base); err != nil {
		return nil, err
	}
	key := g.object(client, ManifestObject).Key()
	if err := s.put(key, g.manifest); err != nil {
		return nil, errors.Join(err, s.remove(g.object(client, SnapshotObject).Key()))
	}
	return g, nil
}

// writeImage streams the pages of base into the snapshot o.
func (s *Spool) writeImage(o Object, base wal.Base) error {
	f, err := s.create()
	if err != nil {
		return err
	}
	w := pack.NewWriter(f, pack.Snapshot, base.Mark.PageSize, o.Place(), pack.WriterOptions{Fuzzy: base.Fuzzy, Concurrency: 2})
	for page, err := range base.Pages {
		if err == nil {
			err = w.Add(page.Pgno, base.Mark.Txn.ID, page.Data)
		}
		if err != nil {
			return errors.Join(err, f.drop())
		}
	}
	if _, err := w.Finish([]wal.TxnInfo{base.Mark.Txn}, base.Mark); err != nil {
		return errors.Join(err, f.drop())
	}
	return f.keep(o.Key())
}
