package generations

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"
)

// Grace is how long a segment stays in the store, by default, after it has become
// part of another: what is being read meanwhile goes on, and a writer that was
// stopped for less than half of it cannot put a segment under a name that somebody
// has used and freed again (see Writer.alone).
const Grace = 5 * time.Minute

// mergeShare is how much of one core merging takes, by default, and making maps.
const mergeShare = 0.25

// MergeOptions say how a Shipper merges what it has shipped. The zero value works.
type MergeOptions struct {
	Grace time.Duration // default Grace
	Share float64       // of one core that merging may take, and making maps; default a quarter, 1: does not rest
	Off   bool          // leaves merging to others
}

// merging makes few segments of many, in the background: one at a time, of the
// copies that the shipper has kept where it can, resting most of the time. It asks
// the store for nothing as long as nothing is shipped, and has goroutines only
// while there is something to merge, or to delete.
type merging struct {
	shipper *Shipper
	ctx     context.Context
	options MergeOptions

	jobs     *queue[lineageJob] // generations that have something to merge
	removals *queue[replaced]   // in the order of due
	refused  bool               // the store does not let us delete; only removals look at it
}

// replaced is an object that is to be deleted.
type replaced struct {
	Object
	due time.Time
}

func newMerging(ctx context.Context, s *Shipper, o MergeOptions) *merging {
	if o.Grace <= 0 {
		o.Grace = Grace
	}
	if o.Share <= 0 {
		o.Share = mergeShare
	}
	m := &merging{shipper: s, ctx: ctx, options: o}
	m.jobs = newQueue(ctx, func(job lineageJob) {
		m.sweep(job.w, job.g)
		m.mergeOne(job.w, job.g)
		m.consider(job.w, job.g)
	})
	m.removals = newQueue(ctx, m.remove)
	return m
}

// keep keeps a copy of seg, which has been put as o.
func (m *merging) keep(o Object, seg segment) {
	if m.options.Off {
		return
	}
	if err := m.shipper.room.keep(o, seg); err != nil {
		m.shipper.options.Logger.Warn("no copy is kept of what was shipped; merging it will read the store", "client", o.Client, "error", err)
	}
}

// consider queues the next merge of g if one is due.
func (m *merging) consider(w *Writer, g *lineage) {
	w.mu.Lock()
	due := !m.options.Off && !g.merging && !time.Now().Before(g.mergeAt) && (nextMerge(g.tail) != nil || len(g.leftovers) > 0)
	if due {
		g.merging = true
	}
	w.mu.Unlock()
	if due {
		m.jobs.add(lineageJob{w, g})
	}
}

// sweep has deleted what an earlier process has merged and not deleted.
func (m *merging) sweep(w *Writer, g *lineage) {
	w.mu.Lock()
	found := g.leftovers
	g.leftovers = nil
	w.mu.Unlock()
	for _, l := range found {
		done, err := m.engine().redundant(m.ctx, l.member, l.left)
		m.replace(done)
		if err != nil && m.ctx.Err() == nil {
			m.shipper.options.Logger.Warn("segments that have been merged into others are left in the store", "client", w.client, "error", err)
		}
	}
}

// mergeRetry is after how long a merge that failed is tried again, when something
// is shipped then.
const mergeRetry = time.Minute

// mergeOne does the next merge of g. Nothing is lost without it, so a failure is
// told, and it is tried again with a later segment.
func (m *merging) mergeOne(w *Writer, g *lineage) {
	w.mu.Lock()
	run := slices.Clone(nextMerge(g.tail))
	if run == nil {
		g.merging = false
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	log := m.shipper.options.Logger.With("client", w.client, "generation", g.ID)
	began := time.Now()
	one, err := m.merge(run)
	w.mu.Lock()
	g.merging = false
	if err != nil {
		g.mergeAt = time.Now().Add(mergeRetry)
		w.mu.Unlock()
		if isVanished(err) { // somebody else has merged them
			err = errors.Join(err, m.survey(w, g))
		}
		if m.ctx.Err() == nil {
			log.Warn("segments could not be merged; it is tried again later", "first", run[0].First, "error", err)
		}
		return
	}
	g.setTail(merged(g.tail, one))
	left := len(g.tail)
	w.mu.Unlock()
	log.Debug("merged segments", "segments", len(run), "into", one.name(), "bytes", one.Size, "took", time.Since(began), "left", left)
	m.shipper.room.copies.forget(run)
	m.replace(run)
	m.shipper.hasPut(one.PlanObject)
	m.shipper.maps.consider(w, g)
}

// survey makes the tail of g what the store has.
func (m *merging) survey(w *Writer, g *lineage) error {
	stored, err := storedSegments(m.ctx, m.shipper.store, w.client, g.ID)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	parts, leftovers := takeInventory(slices.DeleteFunc(stored, func(o PlanObject) bool { return o.First > g.Mark.Txn.ID }))
	for _, p := range g.tail {
		if n := len(parts); n > 0 && p.First > parts[n-1].First { // put since
			parts[n-1].last = p.First - 1
			parts = append(parts, p)
		}
	}
	if n := len(parts); n > 0 {
		parts[n-1].last = g.Mark.Txn.ID
	}
	g.takeStock(parts, leftovers)
	return nil
}

func (m *merging) merge(run []member) (member, error) {
	return m.engine().merge(m.ctx, run)
}

// engine returns what merges for m.
func (m *merging) engine() *merger {
	return &merger{
		store:   m.shipper.store,
		create:  m.shipper.spool.create,
		local:   m.shipper.room.copies.open,
		through: m.through,
		cores:   1,
		made: func(o Object, seg segment) {
			if !(PlanObject{Object: o, Size: seg.body.Size()}).Final() {
				m.keep(o, seg)
			}
		},
	}
}

// through returns what writes to f and works, with whoever writes to it, for no more
// than the share.
func (m *merging) through(f *spoolFile) io.Writer {
	w := &sparing{spoolFile: f}
	if m.options.Share >= 1 {
		return w
	}
	return &resting{Writer: w, ctx: m.ctx, share: m.options.Share, rested: time.Now()}
}

// replace has the parts of a run deleted, when what reads them has had time to
// end, and their place has been taken. What is left when the process ends is found
// by the next one.
func (m *merging) replace(run []member) {
	due := time.Now().Add(m.options.Grace)
	for _, p := range run {
		m.removals.add(replaced{p.Object, due})
	}
}

// remove deletes o when it is due. That it cannot be deleted harms nothing, so it
// is said once.
func (m *merging) remove(o replaced) {
	if m.refused || pause(m.ctx, time.Until(o.due)) != nil {
		return
	}
	err := m.shipper.store.Delete(m.ctx, o.Key())
	if err == nil || m.ctx.Err() != nil {
		return
	}
	if errors.Is(err, ErrDenied) {
		m.refused = true
		m.shipper.options.Logger.Warn("what has been merged into other segments cannot be deleted, and stays in the store", "error", err)
		return
	}
	m.shipper.options.Logger.Warn("a segment that has been merged into another is left in the store", "object", o.Key(), "error", err)
}
