package generations

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// conflictError tells that the store does not have what it should have.
type conflictError struct {
	// ours: what is wrong is on our side or the store's, and another generation
	// will do; otherwise another writer is at work.
	ours bool
	what string
}

func (e *conflictError) Error() string { return e.what }

// prove makes sure, once, that shipping g can go on: a generation begun by an
// earlier process has in the store what we remember, no less and no more; a new
// one is newer than all that are there.
func (w *Writer) prove(ctx context.Context, g *lineage) error {
	w.mu.Lock()
	done, stored, newest := g.proved, g.Manifest, g == w.current()
	w.mu.Unlock()
	began := time.Now()
	var err error
	switch {
	case done:
		return nil
	case stored:
		err = w.proveStored(ctx, g)
	case newest:
		err = w.proveNewest(ctx, g)
	}
	if err == nil {
		w.mu.Lock()
		g.proved, g.alone = true, began
		w.mu.Unlock()
	}
	return err
}

// unprovedParent returns what g goes on from, when that is shipped, by an earlier
// process, and has not been proved: nothing else would show that the store does
// not have it any more, or that another writer has gone on there.
func (w *Writer) unprovedParent(g *lineage) *lineage {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.parent(g); p != nil && !p.proved && p.stuck == nil {
		return p
	}
	return nil
}

// isParent reports whether a lineage goes on from g. The caller holds mu.
func (w *Writer) isParent(g *lineage) bool {
	return slices.ContainsFunc(w.lineages, func(l *lineage) bool { return w.parent(l) == g })
}

// parentStands makes sure that what g goes on from was not pruned. Asked when the
// store has the manifest of g: from then on, nobody prunes it.
func (w *Writer) parentStands(ctx context.Context, g *lineage) error {
	if g.Parent == nil {
		return nil
	}
	e, err := newestEdition(ctx, w.shipper.store, w.client, g.Parent.Generation)
	if err != nil || e == nil || g.Parent.Txn >= e.Through || e.keeps(g.Parent.Txn) {
		return err
	}
	return &conflictError{ours: true, what: fmt.Sprintf("transaction %d of generation %s, which it goes on from, was pruned", g.Parent.Txn, g.Parent.Generation)}
}

// proveNewest makes sure that no generation in the store comes after g: that
// happens when the spool was lost and the clock is behind.
func (w *Writer) proveNewest(ctx context.Context, g *lineage) error {
	for name, err := range w.shipper.store.Dirs(ctx, clientPrefix(w.client)) {
		if err != nil {
			return err
		}
		if id, err := ParseID(name); err == nil && id > g.ID {
			w.mu.Lock()
			w.newest = max(w.newest, id)
			w.mu.Unlock()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.newest > g.ID {
		return &conflictError{ours: true, what: fmt.Sprintf("the store has a newer one, %s", w.newest)}
	}
	return nil
}

// proveStored makes sure that the store has the newest object we remember, and
// nothing behind it but what a lost reply can explain.
func (w *Writer) proveStored(ctx context.Context, g *lineage) error {
	w.mu.Lock()
	p, next := g.progress, g.Mark.Txn.ID+1
	if g == w.current() || len(g.pieces) > 0 {
		next++ // the segment behind may be ours: sameSegment will tell
	}
	w.mu.Unlock()
	prefix := generationPrefix(w.client, p.ID)
	missing := map[string]bool{prefix + manifestName: true}
	if p.Snapshot != 0 {
		missing[g.object(w.client, SnapshotObject).Key()] = true
	}
	if p.Segment != "" {
		prefix += walDir + "/"
		missing = map[string]bool{p.Segment: true}
	}
	var segments []PlanObject
	ahead := ""
	for e, err := range w.shipper.store.List(ctx, prefix, "") {
		if err != nil {
			return err
		}
		delete(missing, e.Key)
		o, err := ParseKey(e.Key)
		switch {
		case err != nil || o.Kind != SegmentObject || o.Pruning != 0 || o.Client != w.client:
		case max(o.First, o.Last) >= next:
			ahead = e.Key
		case o.First <= p.Mark.Txn.ID:
			segments = append(segments, PlanObject{Object: o, Size: e.Size})
		}
		if err == nil && o.Kind == SegmentObject && o.Last == p.Mark.Txn.ID {
			delete(missing, p.Segment) // merged into this one
		}
	}
	for key := range missing {
		if ahead != "" {
			break // which says more
		}
		return &conflictError{ours: true, what: fmt.Sprintf("the store has lost %s", key)}
	}
	parts, leftovers := takeInventory(segments)
	if n := len(parts); n > 0 {
		parts[n-1].last = p.Mark.Txn.ID
	}
	w.mu.Lock()
	g.proved = true
	g.takeStock(parts, leftovers)
	w.mu.Unlock()
	if ahead != "" {
		return &conflictError{ours: true, what: fmt.Sprintf("the store has %s, which is ahead of transaction %d, the last one known here", ahead, p.Mark.Txn.ID)}
	}
	return nil
}

// sameManifest returns nil when the store's manifest is ours.
func (w *Writer) sameManifest(ctx context.Context, g *lineage, o Object) error {
	have, _, err := w.shipper.fetch(ctx, o.Key(), 0)
	if err == nil && !bytes.Equal(have, g.manifest) {
		err = w.taken(g, o)
	}
	return err
}

// imageTail is how much of the end of two images must agree for them to be the
// same: it holds the root, with the checksum of the database.
const imageTail = 64 << 10

// sameImage returns nil when the store's snapshot is the one in f.
func (w *Writer) sameImage(ctx context.Context, g *lineage, o Object, f io.ReaderAt, size int64) error {
	n := min(size, imageTail)
	want := make([]byte, n)
	if _, err := f.ReadAt(want, size-n); err != nil && err != io.EOF {
		return fmt.Errorf("spool: %w", err)
	}
	have, haveSize, err := w.shipper.fetch(ctx, o.Key(), n)
	if err == nil && (haveSize != size || !bytes.Equal(have, want)) {
		err = w.taken(g, o)
	}
	return err
}

// sameSegment is asked when a segment that we want to put exists. It returns
// what is there if that is an earlier write of ours: a reply was lost, or a
// process was killed before it took note.
func (w *Writer) sameSegment(ctx context.Context, g *lineage, o Object) (pack.Info, int64, error) {
	info, theirs, size, err := w.shipper.stored(ctx, o)
	if errors.Is(err, pack.ErrCorrupt) {
		return info, 0, &conflictError{ours: true, what: "the store has a damaged object: " + err.Error()}
	}
	if err != nil {
		return info, 0, err
	}
	w.mu.Lock()
	pieces := g.pieces
	w.mu.Unlock()
	for _, p := range pieces {
		if len(theirs) == 0 {
			break
		}
		ours, err := w.pieceTxns(p)
		if err != nil {
			return info, 0, w.localDamage(err)
		}
		if len(theirs) < len(ours) || !slices.Equal(theirs[:len(ours)], ours) {
			return info, 0, w.taken(g, o)
		}
		theirs = theirs[len(ours):]
	}
	if len(theirs) > 0 {
		return info, 0, w.taken(g, o)
	}
	return info, size, nil
}

// pieceTxns returns the transactions of a piece.
func (w *Writer) pieceTxns(p piece) ([]wal.TxnInfo, error) {
	r, done, err := w.shipper.spool.openPack(p.Object)
	if err != nil {
		return nil, err
	}
	txns, err := r.Txns()
	return txns, errors.Join(err, done())
}

// taken is the conflict over an object that somebody else has put.
func (w *Writer) taken(g *lineage, o Object) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &conflictError{ours: g.resumed, what: fmt.Sprintf("the store already has %s, and not as it was captured here", o.Key())}
}

// fetch returns the last n bytes of an object, all of it for 0, and its size.
func (s *Shipper) fetch(ctx context.Context, key string, n int64) ([]byte, int64, error) {
	body, err := s.store.Get(ctx, key, -n, -1)
	if err != nil {
		return nil, 0, err
	}
	b, err := io.ReadAll(body)
	return b, body.ObjectSize, errors.Join(err, body.Close())
}

// stored opens a pack of the store and returns what it tells, its transactions
// and its size.
func (s *Shipper) stored(ctx context.Context, o Object) (pack.Info, []wal.TxnInfo, int64, error) {
	_, size, err := s.fetch(ctx, o.Key(), 1)
	if err != nil {
		return pack.Info{}, nil, 0, err
	}
	r, err := pack.Open(storedBytes{ctx, s.store, o.Key()}, size, o.Place(), pack.ReaderOptions{})
	if err != nil {
		return pack.Info{}, nil, 0, err
	}
	txns, err := r.Txns()
	return r.Info(), txns, size, err
}

// storedBytes reads an object range by range. It is for the rare look at a few
// objects; what reads the past has a cache.
type storedBytes struct {
	ctx   context.Context
	store Store
	key   string
}

// ReadAt implements io.ReaderAt.
func (s storedBytes) ReadAt(p []byte, off int64) (int, error) {
	body, err := s.store.Get(s.ctx, s.key, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer body.Close() // only read
	n, err := io.ReadFull(body, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}
