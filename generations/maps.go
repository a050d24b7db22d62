package generations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// A generation begins with a whole snapshot, or goes on from another one. All
// later snapshots are maps: each is made of the one before and of final segments,
// to which it refers, so that a view needs one map and what was shipped since.
//
// A map is due when there is a final segment behind the last one. What a map
// tells of its pages takes room too: where pages all over a database of hundreds
// of gigabytes change, it is more than the segment. So the segments behind the
// last map must come to as much as that took. In a fork a map is due, too, when
// the views of it would need too many segments of what it goes on from; those
// that are not final are not referred to, but what is needed of them is copied.

// mapping makes the maps of generations, one at a time, out of what has been
// shipped; the live database is not read.
type mapping struct{ jobs *queue[lineageJob] }

// lineageJob is something to do in the background for a generation.
type lineageJob struct {
	w *Writer
	g *lineage
}

func newMapping(ctx context.Context) *mapping {
	m := new(mapping)
	m.jobs = newQueue(ctx, func(job lineageJob) {
		job.w.makeMap(ctx, job.g)
		m.consider(job.w, job.g) // segments may have become final meanwhile
	})
	return m
}

// mapState is what is known of the next map of a lineage. The mutex of its
// Writer guards it.
type mapState struct {
	final wal.TXID  // last transaction of the newest final segment
	bytes int64     // of final segments behind the last map
	busy  bool      // a map is being made
	after time.Time // not another one before
}

// add notes that parts are final, as far as they are behind the last snapshot.
func (s *mapState) add(parts []member, snapshot wal.TXID) {
	for _, p := range parts {
		if p.last > snapshot {
			s.final = p.last
			s.bytes += p.Size
		}
	}
}

// mapRetry is after how long a map that failed is tried again, when something is
// shipped then.
const mapRetry = time.Minute

// mapDue returns the transaction as of which a map of g should be made now, zero
// when none should. The caller holds the Writer's mu.
func (g *lineage) mapDue() wal.TXID {
	switch {
	case g.needsBase() || time.Now().Before(g.maps.after):
		return 0
	case g.maps.final > g.Snapshot && g.maps.bytes >= g.MapBytes:
		return g.maps.final
	case g.Below > tailLength && g.Segment != "":
		return g.Mark.Txn.ID
	}
	return 0
}

// below returns how many segments at most lie between the last snapshot and the
// newest transaction of g and are not final.
func (g *lineage) below() int {
	if g.Snapshot != 0 {
		return len(g.tail)
	}
	return g.Below + len(g.tail)
}

// consider queues a map of g if one is due.
func (m *mapping) consider(w *Writer, g *lineage) {
	w.mu.Lock()
	due := w.shipper.options.Packs != nil && !g.maps.busy && g.mapDue() != 0
	if due {
		g.maps.busy = true
	}
	w.mu.Unlock()
	if due {
		m.jobs.add(lineageJob{w, g})
	}
}

// makeMap makes and ships a map. Without it nothing is lost, so a failure is
// told, and it is tried again with a later segment.
func (w *Writer) makeMap(ctx context.Context, g *lineage) {
	w.mu.Lock()
	at, bytes := g.mapDue(), g.maps.bytes
	if at == 0 {
		g.maps.busy = false
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	o := Object{Client: w.client, Generation: g.ID, Kind: SnapshotObject, First: at}
	stats, err := w.shipper.mapper().make(ctx, o)
	log := w.shipper.options.Logger.With("client", w.client, "generation", g.ID, "transaction", at)
	w.mu.Lock()
	g.maps.busy = false
	if err != nil {
		g.maps.after = time.Now().Add(mapRetry)
		w.mu.Unlock()
		if ctx.Err() == nil {
			log.Warn("no new map could be made; it is tried again later", "error", err)
		}
		return
	}
	g.Snapshot, g.MapBytes, g.Below = at, stats.Index, 0
	g.maps.bytes -= bytes
	w.unsettled = true
	w.mu.Unlock()
	log.Info("made a map", "bytes", stats.Size, "leaves", stats.Leaves, "kept", stats.Kept, "pages", stats.Written)
	w.shipper.hasPut(PlanObject{Object: o, Size: stats.Size})
	w.shipper.schedule.notify(w)
}

// mapper returns what makes maps for s.
func (s *Shipper) mapper() *mapper {
	return &mapper{
		store:   s.store,
		packs:   s.options.Packs,
		create:  s.spool.create,
		through: s.merging.through,
	}
}

// mapper makes a map of what a store has. It is given what differs between a
// mount, which works in the background, and a command, which does nothing else.
type mapper struct {
	store   Store
	packs   Opener
	create  func() (*spoolFile, error)   // a file to make a map in
	through func(f *spoolFile) io.Writer // writes to f, as fast as it may
	alone   bool                         // the map is to refer to nothing else
}

// make puts the map o.
func (m *mapper) make(ctx context.Context, o Object) (snapshot.MapStats, error) {
	t, err := OpenTimeline(ctx, o.Client, m.store, nil, m.packs)
	if err != nil {
		return snapshot.MapStats{}, err
	}
	var stats snapshot.MapStats
	err = t.ask(ctx, func(l lookup) error {
		stats, err = m.makeFrom(ctx, l, o)
		return err
	})
	return stats, err
}

// makeFrom puts the map o of what has been listed.
func (m *mapper) makeFrom(ctx context.Context, l lookup, o Object) (stats snapshot.MapStats, err error) {
	plan, err := l.state(ctx, o.Generation, o.First)
	if err != nil {
		return stats, err
	}
	view, err := openView(ctx, plan, m.packs)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	f, err := m.create()
	if err != nil {
		return stats, err
	}
	defer f.drop() // a leftover is removed when the spool is opened
	var lasting map[pack.Place]bool
	if !m.alone {
		lasting = l.lasting(plan)
	}
	stats, err = snapshot.WriteMap(m.through(f), o.Place(), view, func(p pack.Place) bool { return lasting[p] })
	if err != nil {
		return stats, err
	}
	err = m.store.Put(ctx, o.Key(), io.NewSectionReader(f, 0, stats.Size))
	if errors.Is(err, ErrExists) { // ours, from before a crash: its checksum is the database's
		err = m.same(ctx, o, plan.Txn)
	}
	return stats, err
}

// state returns the plan of transaction id of a generation, whether it can be looked
// at or not.
func (l lookup) state(ctx context.Context, g ID, id wal.TXID) (Plan, error) {
	s, err := l.shelf(g)
	if err != nil {
		return Plan{}, err
	}
	txn, ok, err := l.byID(ctx, s, id)
	if err == nil && !ok {
		err = tell(ErrNoInstant, "%s: generation %s has no transaction %d", l.client, g, id)
	}
	if err != nil {
		return Plan{}, err
	}
	return l.plan(ctx, s, txn)
}

// same returns nil when the store's snapshot o is of the transaction at.
func (m *mapper) same(ctx context.Context, o Object, at wal.TxnInfo) error {
	size, err := sizeOf(ctx, m.store, o)
	if err != nil {
		return err
	}
	r, err := m.packs.OpenPack(ctx, PlanObject{Object: o, Size: size})
	if err == nil && r.Info().Last != at {
		err = fmt.Errorf("%s exists and is of another state of the database", o.Key())
	}
	return err
}

// lasting returns those objects of a plan that stay: snapshots, and the final
// segments with which a generation begins. Other segments may become part of
// larger ones.
func (l lookup) lasting(p Plan) map[pack.Place]bool {
	stays := make(map[pack.Place]bool)
	for _, o := range p.Objects {
		switch s := l.listing.find(o.Generation); {
		case o.Kind == SnapshotObject:
			stays[o.Place()] = true
		case s != nil && o.Kind == SegmentObject:
			i := slices.IndexFunc(s.cover, func(c PlanObject) bool { return !c.Final() || c.Object == o.Object })
			stays[o.Place()] = i >= 0 && s.cover[i].Final()
		}
	}
	return stays
}

// openers bounds how many packs of a plan are opened at the same time.
const openers = 32

// openView opens the packs of a plan as a view.
func openView(ctx context.Context, p Plan, packs Opener) (*snapshot.View, error) {
	opened := make([]*pack.Reader, len(p.Objects))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(openers)
	for i, o := range p.Objects {
		g.Go(func() (err error) {
			opened[i], err = packs.OpenPack(ctx, o)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return snapshot.NewView(p.Txn, p.PageSize, opened...)
}
