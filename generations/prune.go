package generations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/walback/walback/wal"
)

// Pruning makes clients of a store keep what a policy promises, and nothing else,
// from anywhere: the mount that writes them may go on, and others may prune the
// same. First it decides, then it puts what is to take the place of what is there:
// segments thinned to what is needed, and maps over them. When all of that is in
// the store, an edition makes it what the generation consists of. What is not of it
// any more is deleted after the grace. Interrupted at any point, it has lost
// nothing; the next one does the rest.
type Pruning struct {
	leaving
	packs   Opener
	options PruneOptions
	put     func(PlanObject) // told of editions that have got into the store
}

// PruneOptions say what a Pruning keeps, and how it works. The zero value keeps the
// newest transaction alone.
type PruneOptions struct {
	Policy Policy
	Grace  time.Duration    // zero is right only when nobody else reads or writes
	Now    func() time.Time // default: the clock
	Share  float64          // of one core that it may take; default: does not rest
}

// NewPruning returns a Pruning in s, of which packs opens objects.
func NewPruning(s Store, packs Opener, o PruneOptions) *Pruning {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Pruning{leaving: leaving{store: s, grace: o.Grace}, packs: packs, options: o, put: func(PlanObject) {}}
}

// Pruning returns a Pruning of what s ships to, which works in the background, and
// of which those are told who look at the past beside a live mount.
func (s *Shipper) Pruning(policy Policy, now func() time.Time) *Pruning {
	p := NewPruning(s.store, s.options.Packs, PruneOptions{
		Policy: policy, Grace: s.merging.options.Grace, Now: now, Share: s.merging.options.Share,
	})
	p.put = s.spool.feeds.put
	return p
}

var (
	// ErrClock tells that the clock cannot be right, so nothing was pruned by it.
	ErrClock = errors.New("the clock is wrong")

	// errOvertaken tells that somebody else has pruned the same generation.
	errOvertaken = errors.New("somebody else is pruning it")
)

// fast is by how much a commit may be ahead of the clock that prunes.
const fast = wal.Time(time.Minute / time.Microsecond)

// Plan decides what pruning a client would do.
func (p *Pruning) Plan(ctx context.Context, client string) (*PrunePlan, error) {
	t, err := OpenTimeline(ctx, client, p.store, nil, p.packs)
	if err != nil {
		return nil, err
	}
	plan, _, err := p.plan(ctx, t)
	return plan, err
}

// plan also returns what it was made of.
func (p *Pruning) plan(ctx context.Context, t *Timeline) (plan *PrunePlan, l lookup, err error) {
	err = t.ask(ctx, func(asked lookup) error {
		l = asked
		plan, err = planPruning(ctx, l, p.options.Policy, wal.TimeOf(p.options.Now()))
		return err
	})
	return plan, l, err
}

// Prune prunes a client, and returns what it has done. Delete does the rest.
func (p *Pruning) Prune(ctx context.Context, client string) (*PrunePlan, error) {
	for n := 1; ; n++ {
		plan, err := p.once(ctx, client)
		if err == nil {
			err = p.sweep(ctx, client)
		}
		if err == nil || n == maxTries || !errors.Is(err, errOvertaken) && !isVanished(err) {
			return plan, err
		}
	}
}

// once is Prune, of what there is now.
func (p *Pruning) once(ctx context.Context, client string) (*PrunePlan, error) {
	t, err := OpenTimeline(ctx, client, p.store, nil, p.packs)
	if err != nil {
		return nil, err
	}
	plan, l, err := p.plan(ctx, t)
	if err != nil {
		return nil, err
	}
	if plan.changes() {
		if err := p.mayDelete(ctx, plan); err != nil {
			return plan, err
		}
	}
	// First what needs all that there is, then each generation before those that go on
	// from it, and last what is not needed any more.
	for _, g := range plan.generations {
		if g.change && g.made != 0 {
			if err := p.makeBase(ctx, l, plan, g); err != nil {
				return plan, fmt.Errorf("%s: generation %s: %w", client, g.shelf.id, err)
			}
		}
	}
	for _, gone := range []bool{false, true} {
		for _, g := range plan.generations {
			if g.change && g.gone == gone {
				if l, err = p.revise(ctx, l, plan, g); err != nil {
					return plan, fmt.Errorf("%s: generation %s: %w", client, g.shelf.id, err)
				}
			}
		}
	}
	return plan, nil
}

// mayDelete makes sure, before anything is put, that something may be deleted.
func (p *Pruning) mayDelete(ctx context.Context, plan *PrunePlan) error {
	g := plan.generations[len(plan.generations)-1].shelf
	nothing := Object{Client: plan.Client, Generation: g.id, Kind: SnapshotObject, First: 1, Pruning: g.nextPruning(plan.Now)}
	if err := p.store.Delete(ctx, nothing.Key()); err != nil {
		return fmt.Errorf("nothing was pruned, because nothing can be deleted: %w", err)
	}
	return nil
}

// engine returns what thins for p.
func (p *Pruning) engine(ctx context.Context) *merger {
	return &merger{
		store:   p.store,
		create:  createUnnamed,
		local:   func(Object) (*os.File, bool) { return nil, false },
		through: p.through(ctx),
		cores:   1,
		made:    func(Object, segment) {},
	}
}

// mapper returns what makes maps for p, which refer to nothing else if they are to
// stand alone.
func (p *Pruning) mapper(ctx context.Context, alone bool) *mapper {
	return &mapper{
		store:   p.store,
		packs:   p.packs,
		create:  createUnnamed,
		through: p.through(ctx),
		alone:   alone,
	}
}

// through returns what files are written through.
func (p *Pruning) through(ctx context.Context) func(f *spoolFile) io.Writer {
	return func(f *spoolFile) io.Writer {
		if share := p.options.Share; share > 0 && share < 1 {
			return &resting{Writer: f, ctx: ctx, share: share, rested: time.Now()}
		}
		return f
	}
}
