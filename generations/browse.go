package generations

import (
	"context"
	"slices"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// GenerationInfo sums a generation up.
type GenerationInfo struct {
	ID       ID
	Manifest Manifest
	// First and Last are the first and the last transaction that have a view;
	// zero while the generation is still being put.
	First, Last         wal.TxnInfo
	Snapshots, Segments int
	Bytes               int64 // of both
	edition             *Edition
}

// Span returns all transactions of g that have a view.
func (g GenerationInfo) Span() Span {
	if g.First.ID == 0 {
		return Span{}
	}
	return Span{g.ID, g.First.ID, g.Last.ID, g.edition}
}

// PackInfo is an object and what its root tells.
type PackInfo struct {
	PlanObject
	Info pack.Info
}

// Generations returns the generations, oldest first.
func (t *Timeline) Generations(ctx context.Context) ([]GenerationInfo, error) {
	var all []GenerationInfo
	err := t.ask(ctx, func(l lookup) error {
		all = nil
		for _, s := range l.listing.generations {
			if s.gone() {
				continue
			}
			g, err := l.generation(ctx, s)
			if err != nil {
				return err
			}
			all = append(all, g)
		}
		return nil
	})
	return all, err
}

func (l lookup) generation(ctx context.Context, s *shelf) (GenerationInfo, error) {
	g := GenerationInfo{ID: s.id, edition: s.edition, Snapshots: len(s.images), Segments: len(s.cover)}
	for _, o := range slices.Concat(s.images, s.cover) {
		g.Bytes += o.Size
	}
	var err error
	if g.Manifest, err = l.manifest(ctx, s); err != nil {
		return g, err
	}
	first, ok, err := l.first(ctx, s)
	if err != nil || !ok {
		return g, err
	}
	g.First = first
	g.Last, _, err = l.last(ctx, s, first)
	return g, err
}

// Snapshots returns the snapshots of a generation, oldest first.
func (t *Timeline) Snapshots(ctx context.Context, g ID) ([]PackInfo, error) {
	return t.described(ctx, g, func(s *shelf) []PlanObject { return s.images })
}

// Segments returns the segments of a generation, and pieces not shipped yet, in
// the order of their transactions. Each transaction is in one of them.
func (t *Timeline) Segments(ctx context.Context, g ID) ([]PackInfo, error) {
	return t.described(ctx, g, func(s *shelf) []PlanObject { return s.cover })
}

func (t *Timeline) described(ctx context.Context, g ID, objects func(*shelf) []PlanObject) ([]PackInfo, error) {
	var packs []PackInfo
	err := t.ask(ctx, func(l lookup) error {
		s, err := l.shelf(g)
		if err != nil {
			return err
		}
		infos, err := l.allInfos(ctx, objects(s))
		if err != nil {
			return err
		}
		packs = make([]PackInfo, len(infos))
		for i, o := range objects(s) {
			packs[i] = PackInfo{o, infos[i]}
		}
		return nil
	})
	return packs, err
}
