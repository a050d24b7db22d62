package generations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// minBehind is the least cost of segments behind a snapshot that is worth
// another one, in bytes. For a large database it is half the last snapshot, so
// that snapshots come to at most twice the segments.
const minBehind = 16 << 20

// imageWorth returns the cost of segments behind a snapshot of so many bytes
// that is worth another one.
func imageWorth(size int64) int64 { return max(minBehind, size/2) }

// imaging makes the snapshots of a generation but its first, one at a time, out
// of what has been shipped; the live database is not read. Its goroutine exists
// only while there is one to make.
type imaging struct {
	ctx  context.Context
	work sync.WaitGroup

	mu      sync.Mutex
	pending []imageJob
	busy    bool
}

type imageJob struct {
	w *Writer
	g *lineage
}

// consider queues a snapshot of g if one is due.
func (m *imaging) consider(w *Writer, g *lineage) {
	w.mu.Lock()
	due := w.shipper.options.Packs != nil && !g.imaging && !g.needsBase() &&
		g.Behind > imageWorth(g.SnapshotSize) && !time.Now().Before(g.imageAt)
	if due {
		g.imaging = true
	}
	w.mu.Unlock()
	if !due {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = append(m.pending, imageJob{w, g})
	if !m.busy && m.ctx.Err() == nil {
		m.busy = true
		m.work.Go(m.run)
	}
}

// run makes what is pending.
func (m *imaging) run() {
	for {
		m.mu.Lock()
		if len(m.pending) == 0 || m.ctx.Err() != nil {
			m.busy = false
			m.mu.Unlock()
			return
		}
		job := m.pending[0]
		m.pending = m.pending[1:]
		m.mu.Unlock()
		job.w.makeImage(m.ctx, job.g)
	}
}

// wait returns when run has. The context has ended.
func (m *imaging) wait() { m.work.Wait() }

// makeImage makes and ships a snapshot. Without it nothing is lost, so a failure
// is told, and it is tried again with a later segment.
func (w *Writer) makeImage(ctx context.Context, g *lineage) {
	w.mu.Lock()
	at, behind := g.Mark, g.Behind
	w.mu.Unlock()
	o := Object{Client: w.client, Generation: g.ID, Kind: SnapshotObject, First: at.Txn.ID}
	size, err := w.shipper.image(ctx, o, at)
	log := w.shipper.options.Logger.With("client", w.client, "generation", g.ID, "transaction", at.Txn.ID)
	if err != nil {
		w.mu.Lock()
		g.imaging, g.imageAt = false, time.Now().Add(time.Minute)
		w.mu.Unlock()
		if ctx.Err() == nil {
			log.Warn("no new snapshot could be made; it is tried again later", "error", err)
		}
		return
	}
	log.Info("made a snapshot", "bytes", size)
	w.mu.Lock()
	g.imaging = false
	g.Snapshot, g.SnapshotSize = o.First, size
	g.Behind -= behind
	w.unsettled = true
	w.mu.Unlock()
	w.shipper.hasPut(PlanObject{Object: o, Size: size})
	w.shipper.schedule.notify(w)
}

// image puts a snapshot of what has been shipped and returns its size in bytes.
func (s *Shipper) image(ctx context.Context, o Object, at wal.Mark) (int64, error) {
	t, err := OpenTimeline(ctx, o.Client, s.store, nil, s.options.Packs)
	if err != nil {
		return 0, err
	}
	plan, err := t.At(ctx, AtTXID(o.First).In(o.Generation), at.Txn.Time)
	if err != nil {
		return 0, err
	}
	view, err := openView(ctx, plan, s.options.Packs)
	if err != nil {
		return 0, err
	}
	f, err := s.spool.create()
	if err != nil {
		return 0, errors.Join(err, view.Close())
	}
	defer f.drop() // a leftover is removed when the spool is opened
	_, err = snapshot.Write(&sparing{spoolFile: f}, o.Place(), view, at)
	if err = errors.Join(err, view.Close()); err != nil {
		return 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	err = s.store.Put(ctx, o.Key(), io.NewSectionReader(f, 0, size))
	if errors.Is(err, ErrExists) { // ours, from before a crash: its checksum is the database's
		err = s.sameState(ctx, o, at)
	}
	return size, err
}

// sameState returns nil when the store's snapshot o is of the transaction at.
func (s *Shipper) sameState(ctx context.Context, o Object, at wal.Mark) error {
	info, _, _, err := s.stored(ctx, o)
	if err == nil && info.Last.Checksum != at.Txn.Checksum {
		err = fmt.Errorf("%s exists and is of another state of the database", o.Key())
	}
	return err
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
