package generations

import (
	"context"
	"io"
	"slices"

	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
)

// mapGeneration makes the maps that the final segments of a generation are worth
// and that nobody has made, oldest first, and returns how many. Each can be used as
// soon as it is there; interrupted, the next compaction goes on.
func (c *Compaction) mapGeneration(ctx context.Context, client string, g ID) (made int, err error) {
	t, err := OpenTimeline(ctx, client, c.store, nil, c.packs)
	if err != nil {
		return 0, err
	}
	var finals []PackInfo
	var images []PlanObject
	through := wal.TXID(0) // up to it, a pruning has made the maps
	err = t.ask(ctx, func(l lookup) error {
		s, err := l.shelf(g)
		if err != nil {
			return err
		}
		n := slices.IndexFunc(s.cover, func(o PlanObject) bool { return !o.Final() })
		if n < 0 {
			n = len(s.cover)
		}
		infos, err := l.allInfos(ctx, s.cover[:n])
		finals, images = nil, s.images
		if s.edition != nil {
			through = s.edition.Through
		}
		for i, info := range infos {
			finals = append(finals, PackInfo{s.cover[i], info})
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	var behind, last int64 // bytes of final segments behind the last map, and of that beside pages
	for _, f := range finals {
		at := f.Info.Last.ID
		if at <= through || slices.ContainsFunc(images, func(o PlanObject) bool { return f.First <= o.First && o.First <= at }) {
			behind = 0
			continue
		}
		if behind += f.Size; behind < last {
			continue
		}
		stats, err := c.makeMap(ctx, t, g, at)
		if err != nil {
			return made, err
		}
		made, behind, last = made+1, 0, stats.Index
	}
	return made, nil
}

func (c *Compaction) makeMap(ctx context.Context, t *Timeline, g ID, at wal.TXID) (snapshot.MapStats, error) {
	m := &mapper{
		store:   c.store,
		packs:   t.packs,
		create:  createUnnamed,
		through: func(f *spoolFile) io.Writer { return f },
	}
	return m.make(ctx, Object{Client: t.client, Generation: g, Kind: SnapshotObject, First: at})
}
