package generations

import (
	"fmt"

	"github.com/walback/walback/wal"
)

// Resume saves what has been appended and returns what is kept of the newest
// transactions; false when there is nothing at all.
func (w *Writer) Resume() (wal.Past, bool) {
	w.saving.Lock()
	defer w.saving.Unlock()
	w.save() // Ended tells when that failed
	w.compacted()
	w.mu.Lock()
	g := w.current()
	if g == nil {
		w.mu.Unlock()
		return wal.Past{}, false
	}
	past := wal.Past{Mark: g.mark, Ended: !g.usable() || g.File != w.file}
	upTo, err := w.forkable(g)
	w.mu.Unlock()
	if err != nil {
		return past, true // it has been told why it ended
	}
	if past.States, err = w.states.list(g, upTo); err != nil {
		w.shipper.options.Logger.Warn("the generation cannot be forked", "client", w.client, "generation", g.ID, "error", err)
	}
	past.Sums = func(id wal.TXID) (*wal.PageSums, error) {
		w.saving.Lock()
		defer w.saving.Unlock()
		sums, _, err := w.states.sums(g, id)
		if err != nil {
			err = fmt.Errorf("%s: %w", w.client, err)
		}
		return sums, err
	}
	return past, true
}

// forkable returns the last transaction of g that a generation may go on from,
// or why there is none. The caller holds mu.
func (w *Writer) forkable(g *lineage) (wal.TXID, error) {
	upTo := g.reach()
	switch {
	case w.fenced != nil:
		return 0, w.fenced
	case upTo == 0:
		return 0, g.stuck
	case g.File != w.file:
		return 0, fmt.Errorf("it is the history of %s, not of %s", g.File, w.file)
	}
	return upTo, nil
}

// toldStates says when the states of the generation could not be kept: capture
// does not depend on them.
func (w *Writer) toldStates(err error) {
	if err != nil {
		w.shipper.options.Logger.Warn("the generation cannot be forked any more: should capture be interrupted, a whole new image will be made",
			"client", w.client, "error", err)
	}
}

// compactStates begins to write the states of g anew when they have outgrown what
// is to be kept. A gate does not wait for that. The caller holds saving.
func (w *Writer) compactStates(g *lineage) {
	if w.states.compacting != nil || !w.states.outgrown(1) {
		return
	}
	c, done := w.states.compaction(g), make(chan struct{})
	began := w.shipper.background(func() {
		defer close(done)
		err := c.write()
		w.saving.Lock()
		defer w.saving.Unlock()
		w.states.compacting = nil
		if err == nil {
			err = c.finish()
		}
		if w.states.era == c.as.era { // otherwise it went wrong because of that
			w.toldStates(w.states.ended(err))
		}
	})
	if began {
		w.states.compacting = done
	}
}

// compacted waits until the states are not being compacted. The caller holds
// saving, which is given up meanwhile.
func (w *Writer) compacted() {
	for w.states.compacting != nil {
		done := w.states.compacting
		w.saving.Unlock()
		<-done
		w.saving.Lock()
	}
}

// list returns the transactions up to upTo of which there is a state, of g and
// what it goes on from.
func (s *states) list(g *lineage, upTo wal.TXID) ([]wal.TxnInfo, error) {
	c, err := s.chain(g)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var txns []wal.TxnInfo
	for _, r := range c.records {
		if !r.fuzzy && r.txn.ID <= upTo {
			txns = append(txns, r.txn)
		}
	}
	return txns, nil
}

// sums returns the state that transaction id left, and which transaction that
// is: g goes on from it or has it.
func (s *states) sums(g *lineage, id wal.TXID) (*wal.PageSums, stateRecord, error) {
	c, err := s.chain(g)
	if err != nil {
		return nil, stateRecord{}, err
	}
	defer c.close()
	n := c.find(id)
	if n == 0 {
		return nil, stateRecord{}, fmt.Errorf("there is no state of transaction %d", id)
	}
	sums, err := c.sums(n)
	return sums, c.records[n-1], err
}

// Settled reports whether the store has everything that was appended, and Resume
// would tell the state behind it. It is false while something is being saved.
func (w *Writer) Settled() bool {
	if !w.saving.TryLock() {
		return false
	}
	defer w.saving.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.current()
	return g != nil && len(w.lineages) == 1 && g.usable() && g.File == w.file && !w.working() &&
		g.last == g.Mark.Txn && !w.states.off && w.states.last.txn == g.last.ID
}
