package cache

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal/pack"
)

// parallelOpens is how many packs of a plan are opened at a time.
const parallelOpens = 32

// View returns the database that p describes. Its packs and all that was
// decoded of them are shared with every other view that has them. When an
// object of p has gone (a local one that was shipped meanwhile, one merged
// into another) the error matches fs.ErrNotExist, and a new plan is needed.
func (c *Cache) View(ctx context.Context, p generations.Plan) (*snapshot.View, error) {
	packs := make([]*pack.Reader, len(p.Objects))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelOpens)
	for i, o := range p.Objects {
		g.Go(func() (err error) {
			packs[i], err = c.OpenPack(gctx, o)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return snapshot.NewView(p.Txn, p.PageSize, packs...)
}
