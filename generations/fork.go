package generations

import (
	"errors"
	"fmt"
	"slices"

	"github.com/walback/walback/wal"
)

// Fork starts a new generation that goes on from the transaction from, one of
// Past.States, with first, which is on local disk when Fork returns. first has
// the index behind from, and a time later than any transaction that was
// appended before.
func (w *Writer) Fork(from wal.TXID, first *wal.Txn) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	if err := w.finish(); err != nil {
		return err
	}
	g, err := w.fork(from, first)
	if err == nil {
		err = w.start(g)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: fork from transaction %d: %w", w.client, from, err), w.abandon(g))
	}
	w.toldStates(w.states.follow(g, changesOf(g, []*wal.Txn{first})))
	return nil
}

// fork writes the objects of a generation that goes on from the current one, or
// from what that goes on from. After an error, some of them may be there if it
// returns one. The caller holds saving.
func (w *Writer) fork(from wal.TXID, first *wal.Txn) (*lineage, error) {
	w.mu.Lock()
	g := w.current()
	if g == nil {
		w.mu.Unlock()
		return nil, errors.New("there is no generation")
	}
	upTo, err := w.forkable(g)
	w.mu.Unlock()
	if err == nil && from > upTo {
		err = fmt.Errorf("it will not be in the store: what is stored ends with %d", upTo)
	}
	if err != nil {
		return nil, err
	}
	sums, at, err := w.states.sums(g, from)
	if err != nil {
		return nil, err
	}
	if err := follows(first, at, sums, g.mark.Txn.Time); err != nil {
		return nil, err
	}
	child := w.child(g, at, w.newID(first.Time))
	manifest := Manifest{
		Format: manifestFormat, File: child.File, PageSize: child.PageSize,
		Created: first.Time, Parent: child.Parent, Writer: w.shipper.spool.writer,
	}
	child.manifest = manifest.Encode()
	// In this order, because whoever lists the spool passes a manifest alone over.
	if err := w.shipper.spool.put(child.object(w.client, ManifestObject).Key(), child.manifest); err != nil {
		return nil, err
	}
	p, err := w.writePiece(child, []*wal.Txn{first})
	if err != nil {
		return child, err
	}
	w.states.goBack(at)
	child.pieces = []piece{p}
	child.last, child.mark = first.TxnInfo, wal.Mark{Txn: first.TxnInfo, PageSize: child.PageSize, Log: first.End}
	return child, nil
}

// follows returns nil when first makes of the state at, with the given sums, what
// it says, at a time after the given one, which is the last that was appended.
func follows(first *wal.Txn, at stateRecord, sums *wal.PageSums, after wal.Time) error {
	if first.ID != at.txn.ID+1 || first.Time <= after || first.PageSize != at.pageSize {
		return fmt.Errorf("transaction %d of %s (pages of %d bytes) cannot follow %d (pages of %d bytes) later than %s",
			first.ID, first.Time, first.PageSize, at.txn.ID, at.pageSize, after)
	}
	sums.Apply(wal.Commit{Frames: first.Frames, Size: first.Size, PageSize: first.PageSize})
	if sums.Total() != first.Checksum {
		return fmt.Errorf("transaction %d on top of %d gives the checksum %s, not %s", first.ID, at.txn.ID, sums.Total(), first.Checksum)
	}
	return nil
}

// child returns a lineage that goes on from at, a transaction of g or of what g
// goes on from.
func (w *Writer) child(g *lineage, at stateRecord, id ID) *lineage {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &lineage{progress: progress{
		ID: id, File: g.File, PageSize: g.PageSize,
		Parent: &Parent{Generation: at.generation, Txn: at.txn.ID},
		Mark:   wal.Mark{Txn: at.txn, PageSize: at.pageSize},
		Below:  g.below(),
	}}
	if g.Snapshot > at.txn.ID { // that one is of no use
		c.Below = tailLength + 1
	}
	if len(g.pieces) > 0 {
		c.Below++
	}
	return c
}

// parent returns the lineage that g goes on from; nil when there is none, or it
// is in the store. The caller holds mu.
func (w *Writer) parent(g *lineage) *lineage {
	if g.Parent == nil {
		return nil
	}
	i := slices.IndexFunc(w.lineages, func(l *lineage) bool { return l.ID == g.Parent.Generation })
	if i < 0 {
		return nil
	}
	return w.lineages[i]
}

// reach returns the last transaction of g that the store has or will get. The
// caller holds mu.
func (g *lineage) reach() wal.TXID {
	switch {
	case g.stuck == nil:
		return g.mark.Txn.ID
	case !g.proved || !g.Manifest || g.needsBase():
		return 0
	}
	return g.Mark.Txn.ID
}

// uproot makes stuck what goes on from transactions that the store will never
// have, or from a generation that another writer has taken over. The caller
// holds mu.
func (w *Writer) uproot() {
	for _, g := range w.lineages {
		p := w.parent(g)
		switch {
		case p == nil || g.stuck != nil:
		case errors.Is(p.stuck, ErrFenced):
			w.strand(g, ErrFenced, fmt.Sprintf("it goes on from generation %s, which another writer has", p.ID))
		case p.reach() < g.Parent.Txn:
			w.strand(g, ErrBroken, fmt.Sprintf("it goes on from transaction %d of generation %s, which cannot be stored", g.Parent.Txn, p.ID))
		}
	}
}

// strand makes g stuck. The caller holds mu.
func (w *Writer) strand(g *lineage, is error, what string) {
	g.stuck = fmt.Errorf("%s: generation %s: %w: %s", w.client, g.ID, is, what)
	g.manifest = nil
	w.account()
	if g == w.current() {
		w.end(g, is, errors.New(what))
		w.forget(g)
		if errors.Is(is, ErrFenced) {
			w.fenced = g.stuck
		}
	}
}
