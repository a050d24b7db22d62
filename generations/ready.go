package generations

import (
	"errors"
	"fmt"

	"github.com/walback/walback/wal"
)

// Ready returns nil while a generation can begin, and otherwise what Begin and
// Fork would fail with: ErrSpoolFull, or ErrFenced. It is cheap.
func (w *Writer) Ready() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fenced != nil {
		return w.fenced
	}
	if err := w.shipper.room.ready(); err != nil {
		return fmt.Errorf("%s: %w", w.client, err)
	}
	return nil
}

// writePiece saves txns, which follow each other, if there is room for them.
func (w *Writer) writePiece(g *lineage, txns []*wal.Txn) (piece, error) {
	var raw int64
	for _, txn := range txns {
		raw += rawBytes(txn)
	}
	if err := w.shipper.room.admit(raw); err != nil {
		return piece{}, err
	}
	p, err := w.shipper.spool.writePiece(w.client, g.ID, txns)
	if noSpace(err) {
		err = tell(ErrSpoolFull, "%v", err)
	}
	return p, err
}

// endOf returns what a generation ends with when saving has failed with err.
func endOf(err error) error {
	if errors.Is(err, ErrSpoolFull) {
		return ErrSpoolFull
	}
	return ErrBroken
}

// account tells the shipper's room how much of w waits. The caller holds mu.
func (w *Writer) account() {
	var n int64
	for _, g := range w.lineages {
		n += g.holds(g == w.current())
	}
	w.shipper.room.hold(n - w.held)
	w.held = n
}
