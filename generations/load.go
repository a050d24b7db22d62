package generations

import (
	"errors"
	"fmt"
	"os"

	"github.com/walback/walback/wal/pack"
)

// load takes up what the spool has of w's client: the state file says what the
// store has, the pieces what it lacks. Objects that the state does not know of
// were left by a Begin that was killed; pieces that do not follow the others
// were left by a power loss. Both are removed.
func (w *Writer) load() error {
	sp, log := w.shipper.spool, w.shipper.options.Logger
	st, err := sp.loadState(w.client)
	if errors.Is(err, errBadState) {
		log.Error("the state of the database is lost; a new generation begins", "client", w.client, "error", err)
		err = nil
	}
	if err != nil {
		return err
	}
	w.times.path = sp.timesPath(w.client)
	if err := w.times.load(); err != nil {
		return err
	}
	for _, p := range st.Generations {
		w.lineages = append(w.lineages, &lineage{progress: p, earlier: true, resumed: true, last: p.Mark.Txn, mark: p.Mark})
		w.file = p.File
	}
	objects, err := sp.List(w.client)
	if err != nil {
		return err
	}
	for _, o := range objects {
		used, err := w.take(o)
		if err != nil {
			return err
		}
		if !used {
			log.Warn("removed from the spool: cannot be shipped", "object", o.Key())
			if err := sp.remove(o.Key()); err != nil {
				return err
			}
		}
	}
	if g := w.current(); g != nil {
		w.times.forget(g.last.ID)
	}
	w.states = states{spool: sp, path: sp.statesPath(w.client), off: true}
	if g := w.current(); g != nil {
		err := w.states.load(g)
		if err == nil {
			err = w.states.complete(w.client, g)
		}
		w.toldStates(err)
	}
	for i, g := range w.lineages {
		if g.Manifest || g.manifest != nil {
			continue
		}
		const lost = "the spool has lost its manifest"
		g.stuck = fmt.Errorf("%s: generation %s: %w: %s", w.client, g.ID, ErrBroken, lost)
		if i == len(w.lineages)-1 {
			w.end(g, ErrBroken, errors.New(lost))
		}
	}
	w.uproot()
	w.account()
	return nil
}

// take adds one object of the spool to its lineage; false when it is of no use.
// Objects are taken in key order.
func (w *Writer) take(o PlanObject) (bool, error) {
	for _, g := range w.lineages {
		if g.ID != o.Generation {
			continue
		}
		switch o.Kind {
		case ManifestObject:
			return w.takeManifest(g, o)
		case SnapshotObject:
			g.baseSize = o.Size
			return g.needsBase() && o.First == g.Base, nil
		case PieceObject:
			return w.takePiece(g, o)
		}
	}
	return false, nil
}

// takeManifest takes a manifest that is not stored yet, if it is intact.
func (w *Writer) takeManifest(g *lineage, o PlanObject) (bool, error) {
	b, err := os.ReadFile(w.shipper.spool.objectPath(o.Key()))
	if err != nil || g.Manifest {
		return false, err
	}
	if _, err := ParseManifest(b); err != nil {
		return false, nil
	}
	g.manifest = b
	return true, nil
}

// takePiece adds a piece that follows what g has.
func (w *Writer) takePiece(g *lineage, o PlanObject) (bool, error) {
	if o.First != g.mark.Txn.ID+1 {
		return false, nil // shipped, or behind a gap
	}
	p, mark, err := w.shipper.spool.loadPiece(o)
	if errors.Is(err, pack.ErrCorrupt) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	g.pieces = append(g.pieces, p)
	g.last, g.mark = mark.Txn, mark
	return true, nil
}
