package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/walback/walback/generations"
)

// A mount prunes seldom: a policy counts days, and each time it looks at all clients.
const (
	firstPruning = time.Hour // after mounting
	pruneEvery   = 24 * time.Hour
)

// pruner prunes, now and then, what is below the URL of a mount.
type pruner struct {
	m      *mounted
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// openPruner begins to prune, if that was asked for.
func (m *mounted) openPruner(context.Context) error {
	if m.o.retain == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.pruner = &pruner{m: m, cancel: cancel}
	m.pruner.work.Go(func() { m.pruner.run(ctx) })
	return nil
}

// close stops pruning at once. The next one does the rest.
func (p *pruner) close() {
	p.cancel()
	p.work.Wait()
}

func (p *pruner) run(ctx context.Context) {
	next := time.NewTimer(firstPruning)
	defer next.Stop()
	for {
		select {
		case <-next.C:
			p.prune(ctx)
			next.Reset(pruneEvery)
		case <-ctx.Done():
			return
		}
	}
}

// prune prunes all clients. What goes wrong harms nothing, and is said.
func (p *pruner) prune(ctx context.Context) {
	_ = p.m.shipper.Merged(ctx) // what is merged need not be thinned twice
	pruning := p.m.shipper.Pruning(p.m.o.retain, p.m.now)
	for client, err := range generations.Clients(ctx, p.m.store) {
		var plan *generations.PrunePlan
		if err == nil {
			plan, err = pruning.Prune(ctx, client)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			p.m.logger.Warn("history was not pruned; it is tried again tomorrow", "client", client, "error", err)
		case plan.Dropped > 0:
			p.m.logger.Info("pruned history", "client", client, "dropped", plan.Dropped, "generations", len(plan.Generations))
		}
		if errors.Is(err, generations.ErrDenied) {
			break // of the others too
		}
	}
	if err := pruning.Delete(ctx); err != nil && ctx.Err() == nil {
		p.m.logger.Warn("what was pruned stays in the store; it is tried again tomorrow", "error", err)
	}
}
