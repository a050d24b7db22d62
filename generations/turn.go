package generations

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/walback/walback/wal"
)

// Bounds of the time between attempts while the store fails.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// due returns when w should have a turn, and false when it has nothing to do.
// What begins a generation, and backlog, goes out as fast as it can; a segment
// when its pace allows, so that an isolated commit is sent at once and a stream of
// them in ever larger segments.
func (w *Writer) due(hurry bool) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.working() {
		return time.Time{}, false
	}
	if w.savesEarly() {
		return time.Time{}, true
	}
	var due time.Time
	g := w.oldestWaiting()
	if !hurry && !w.unsettled && g != nil && g == w.current() && g.Manifest && !g.needsBase() && g.waitingBytes() < maxRun && len(g.pieces) < maxPieces {
		due = w.nextSegment()
	}
	if w.retryAt.After(due) {
		due = w.retryAt
	}
	return due, true
}

// nextSegment returns when a segment may be begun that nobody has asked for.
func (w *Writer) nextSegment() time.Time {
	if w.shipper.options.OnlyFlush {
		return time.Now().Add(24 * time.Hour) // and then again
	}
	return w.pace.Next(w.shipper.options.Interval)
}

// earlySave is how many bytes of pages are saved while a segment is not due yet,
// so that a gate, at which an application waits, finds no more than that to save.
const earlySave = 1 << 20

// savesEarly reports whether w is to save and not to ship. The caller holds mu.
func (w *Writer) savesEarly() bool {
	return w.queued >= earlySave && w.attempts == 0 && w.current().usable() && time.Now().Before(w.nextSegment())
}

// working reports whether there is something to do. The caller holds mu.
func (w *Writer) working() bool { return w.unsettled || w.oldestWaiting() != nil }

// oldestWaiting returns the lineage to ship from next. The caller holds mu.
func (w *Writer) oldestWaiting() *lineage {
	for _, g := range w.lineages {
		if g.waiting() || g == w.current() && g.stuck == nil && len(w.queue) > 0 {
			return g
		}
	}
	return nil
}

func (w *Writer) hasWork() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.working()
}

// failure returns why the last turn failed.
func (w *Writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// unshipped returns how many transactions are not in the store, and why some
// never will be.
func (w *Writer) unshipped() (n int, stuck error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = len(w.queue)
	for _, g := range w.lineages {
		for _, p := range g.pieces {
			n += int(p.Last - p.First + 1)
		}
		if g.stuck != nil {
			stuck = g.stuck
		}
	}
	return n, stuck
}

// takeTurn puts one object of w.
func (s *Shipper) takeTurn(ctx context.Context, w *Writer) {
	err := w.step(ctx)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	before := w.failed
	w.failed = err
	if err == nil {
		w.attempts, w.retryAt = 0, time.Time{}
	} else {
		w.attempts++
		w.retryAt = time.Now().Add(retryDelay(w.attempts))
	}
	w.mu.Unlock()
	if s.room.emptied() {
		s.makeKnown()
	}
	log := s.options.Logger.With("client", w.client)
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		log.Warn("shipping fails; it is tried again until it succeeds", "error", err)
	case err == nil && before != nil:
		log.Info("shipping works again")
	}
}

// makeKnown tells whom it concerns that the spool has room again. No lock is
// held.
func (s *Shipper) makeKnown() {
	for _, w := range s.all() {
		if errors.Is(w.Err(), ErrSpoolFull) && s.options.OnRoom != nil {
			s.options.OnRoom(w.client)
		}
	}
}

// retryDelay returns how long to wait after so many failed attempts in a row.
func retryDelay(attempts int) time.Duration {
	d := min(firstRetry<<min(attempts-1, 10), lastRetry)
	return d/2 + rand.N(d/2)
}

// step does the next thing that w needs: put a manifest, a snapshot or a
// segment, or save what is queued. It is called once at a time for each Writer.
func (w *Writer) step(ctx context.Context) error {
	if err := w.settle(); err != nil {
		return err
	}
	w.mu.Lock()
	g, early := w.oldestWaiting(), w.savesEarly()
	w.mu.Unlock()
	switch {
	case g == nil:
		return nil
	case early:
		w.saveQueue()
		return nil
	}
	if p := w.unprovedParent(g); p != nil {
		g = p // it has to be looked at though all of it is shipped
	}
	err := w.prove(ctx, g)
	if err == nil {
		err = w.shipNext(ctx, g)
	}
	var conflict *conflictError
	if errors.As(err, &conflict) {
		return w.stick(g, conflict)
	}
	return err
}

func (w *Writer) shipNext(ctx context.Context, g *lineage) error {
	w.mu.Lock()
	manifest, image, unsaved := !g.Manifest, g.needsBase(), g == w.current() && len(w.queue) > 0
	w.mu.Unlock()
	switch {
	case manifest:
		return w.shipManifest(ctx, g)
	case image:
		return w.shipBase(ctx, g)
	}
	if unsaved { // otherwise a long Begin need not be waited for
		w.saveQueue()
	}
	return w.shipSegment(ctx, g)
}

// saveQueue saves what is queued. Its failing ends the generation, which does
// not keep what is saved from being shipped.
func (w *Writer) saveQueue() {
	before := w.Err()
	if err := w.Save(); err != nil && before == nil {
		w.shipper.broken(w, err)
	}
}

// broken tells whom it concerns that w needs a new generation. No lock is held.
func (s *Shipper) broken(w *Writer, err error) {
	s.options.Logger.Error("capture of the generation ended", "client", w.client, "error", err)
	if s.options.OnBroken != nil {
		s.options.OnBroken(w.client, err)
	}
}

// stick stops shipping g, because what the store has is not what it should
// have.
func (w *Writer) stick(g *lineage, c *conflictError) error {
	w.mu.Lock()
	is := ErrBroken
	if !c.ours {
		is = ErrFenced
	}
	current := w.current()
	before := current.stuck
	w.strand(g, is, c.what)
	w.uproot()
	err, now := g.stuck, current.stuck
	w.mu.Unlock()
	if before == nil && now != nil {
		w.shipper.broken(w, now)
	}
	return err
}

// settle writes down what the store has got, and then removes it from the
// spool. What it could not do is done at the next turn.
func (w *Writer) settle() error {
	w.mu.Lock()
	if !w.unsettled {
		w.mu.Unlock()
		return nil
	}
	over := w.dropOver()
	garbage := w.garbage
	w.mu.Unlock()
	if err := w.saveState(); err != nil {
		return err
	}
	for i, key := range garbage {
		if err := w.shipper.spool.remove(key); err != nil {
			w.mu.Lock()
			w.garbage = w.garbage[i:]
			w.mu.Unlock()
			return err
		}
	}
	for _, g := range over {
		w.shipper.spool.prune(w.client, g)
	}
	w.mu.Lock()
	w.garbage, w.unsettled = nil, false
	w.mu.Unlock()
	w.pruneIdle()
	return nil
}

// pruneIdle removes empty directories of a database that is closed and shipped.
func (w *Writer) pruneIdle() {
	w.mu.Lock()
	g, idle := w.current(), !w.open && !w.working()
	w.mu.Unlock()
	if g != nil && idle {
		w.shipper.spool.prune(w.client, g.ID)
	}
}

// dropOver forgets generations before the newest that are wholly in the store,
// and those that can never be, once a newer one can be read there. It returns
// them. The caller holds mu.
func (w *Writer) dropOver() (over []ID) {
	stands := false // a newer generation can be read from the store
	for i := len(w.lineages) - 2; i >= 0; i-- {
		g := w.lineages[i]
		stands = stands || w.lineages[i+1].stands()
		shipped := g.stuck == nil && !g.waiting() && (g.proved || !w.isParent(g))
		lost := stands && errors.Is(g.stuck, ErrBroken)
		if !shipped && !lost {
			continue
		}
		w.garbage = append(w.garbage, g.keys(w.client)...)
		w.lineages = slices.Delete(w.lineages, i, i+1)
		over = append(over, g.ID)
	}
	return over
}

// status tells how far w has come.
func (w *Writer) status(now wal.Time) DatabaseStatus {
	queued, stuck := w.unshipped()
	w.mu.Lock()
	defer w.mu.Unlock()
	st := DatabaseStatus{Client: w.client, File: w.file, Queued: queued, Bytes: w.queued}
	oldest := now
	for _, g := range w.lineages {
		st.Bytes += g.waitingBytes()
		if len(g.pieces) > 0 {
			oldest = min(oldest, g.pieces[0].head.Time)
		}
	}
	if len(w.queue) > 0 {
		oldest = min(oldest, w.queue[0].Time)
	}
	st.Lag = time.Duration(now-oldest) * time.Microsecond
	if g := w.current(); g != nil {
		st.Generation, st.Committed = g.ID, g.last
		if g.stands() {
			st.Shipped = g.Mark.Txn
		}
	}
	for _, err := range []error{w.Err(), w.failed, stuck} {
		if st.Err == nil && err != nil {
			st.Err, st.Error = err, err.Error()
		}
	}
	return st
}
