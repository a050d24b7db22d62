package generations

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// Begin starts a new generation from an image of the database and returns when
// the image is in the spool. Transactions of the generation before that have
// been saved are still shipped, first.
func (w *Writer) Begin(base wal.Base) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	if err := w.finish(); err != nil {
		return err
	}
	id := w.newID(base.Mark.Txn.Time)
	states := w.states.begin(id, base)
	g, err := w.shipper.spool.writeBase(w.client, w.fileName(), id, base, states)
	if err == nil {
		err = w.start(g)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: begin a generation: %w", w.client, err), w.abandon(g), states.drop())
	}
	w.toldStates(w.states.keep(states))
	return nil
}

// finish saves what can still be had of the current generation and ends it,
// because another one follows; Err tells until that has started. The error is
// that none can. The caller holds saving.
func (w *Writer) finish() error {
	w.save() // Err has told before
	if err := w.Ready(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if g := w.current(); g != nil && g.ended == nil {
		w.end(g, ErrBroken, errors.New("a new generation follows"))
	}
	return nil
}

// newID returns an ID behind those of all generations of the client.
func (w *Writer) newID(now wal.Time) ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	after := w.newest
	if g := w.current(); g != nil {
		after = max(after, g.ID)
	}
	return NewID(now, after)
}

// fileName returns the database's own file name.
func (w *Writer) fileName() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.file
}

// start makes g, whose objects are in the spool, the current generation: once
// it is in the state file it is begun, whatever happens.
func (w *Writer) start(g *lineage) error {
	w.mu.Lock()
	w.lineages = append(w.lineages, g)
	w.account()
	w.times.known = nil
	w.mu.Unlock()
	if err := w.saveState(); err != nil {
		return err
	}
	w.unusable.Store(nil)
	w.shipper.schedule.notify(w)
	return nil
}

// abandon takes back a generation, nil or whole, that did not get into the state
// file.
func (w *Writer) abandon(g *lineage) error {
	if g == nil {
		return nil
	}
	w.mu.Lock()
	w.lineages = slices.DeleteFunc(w.lineages, func(l *lineage) bool { return l == g })
	w.account()
	w.mu.Unlock()
	var errs []error
	for _, key := range g.keys(w.client) {
		errs = append(errs, w.shipper.spool.remove(key))
	}
	return errors.Join(errs...)
}

// writeBase writes the manifest and the image that a generation begins with.
func (s *Spool) writeBase(client, file string, id ID, base wal.Base, states *stateBase) (*lineage, error) {
	m := Manifest{
		Format: manifestFormat, File: file, PageSize: base.Mark.PageSize,
		Created: base.Mark.Txn.Time, Writer: s.writer,
	}
	g := &lineage{
		progress: progress{ID: id, File: file, PageSize: base.Mark.PageSize, Base: base.Mark.Txn.ID, Mark: base.Mark},
		manifest: m.Encode(), last: base.Mark.Txn, mark: base.Mark,
	}
	var err error
	if g.baseSize, err = s.writeImage(g.object(client, SnapshotObject), base, states); err != nil {
		return nil, err
	}
	key := g.object(client, ManifestObject).Key()
	if err := s.put(key, g.manifest); err != nil {
		return nil, errors.Join(err, s.remove(g.object(client, SnapshotObject).Key()))
	}
	return g, nil
}

// spareEvery is after how many bytes of an image it is looked again whether there
// is space for as many more.
const spareEvery = 4 << 20

// imageProcessors is how many groups of an image are compressed at a time: half
// of the processors are the application's.
func imageProcessors() int { return max(2, runtime.GOMAXPROCS(0)/2) }

// writeImage streams the pages of base into the snapshot o, and their checksums
// into states. It returns the size of the snapshot in bytes.
func (s *Spool) writeImage(o Object, base wal.Base, states *stateBase) (int64, error) {
	f, err := s.create()
	if err != nil {
		return 0, err
	}
	w := pack.NewWriter(f, pack.Snapshot, base.Mark.PageSize, o.Place(), pack.WriterOptions{Fuzzy: base.Fuzzy, Concurrency: imageProcessors()})
	for page, err := range base.Pages {
		if err == nil && int64(page.Pgno)*int64(len(page.Data))%spareEvery < int64(len(page.Data)) {
			err = s.spare(spareEvery)
		}
		if err == nil {
			states.add(page)
			err = w.Add(page.Pgno, base.Mark.Txn.ID, page.Data)
		}
		if err != nil {
			return 0, errors.Join(err, f.drop())
		}
	}
	size, err := w.Finish([]wal.TxnInfo{base.Mark.Txn}, base.Mark)
	if err != nil {
		return 0, errors.Join(err, f.drop())
	}
	return size, f.keep(o.Key())
}
