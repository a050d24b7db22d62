package snapshot

import (
	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// Packs of at most smallPack versions are searched together, up to smallPacks
// versions (a few megabytes of map) at a time: the newest minutes of a history
// are hundreds of small segments, and asking them one by one for a page that
// none of them has would cost more than reading it.
const (
	smallPack  = 4096
	smallPacks = 1 << 16
)

// layer is one big pack, or a run of small ones with a merged index.
type layer struct {
	sources []source
	merged  lazy[map[wal.Pgno]found]
}

// found is the newest version of a page in a layer.
type found struct {
	source int32
	ref    pack.Ref
}

// stack groups sources into layers, in the same order.
func stack(sources []source) []*layer {
	var layers []*layer
	room := int64(0) // versions the last layer has room for
	for i, s := range sources {
		n := s.Info().Versions
		if i > 0 && n <= smallPack && n <= room {
			l := layers[len(layers)-1]
			l.sources = append(l.sources, s)
			room -= n
			continue
		}
		layers = append(layers, &layer{sources: sources[i : i+1 : i+1]})
		if room = 0; n <= smallPack {
			room = smallPacks - n
		}
	}
	return layers
}

// find returns the newest version of page p that the layer has to show.
func (l *layer) find(p wal.Pgno) (source, pack.Ref, bool, error) {
	if len(l.sources) == 1 {
		s := l.sources[0]
		ref, ok, err := s.Find(p, s.max)
		return s, ref, ok, err
	}
	merged, err := l.merged.get(l.merge)
	if err != nil {
		return source{}, pack.Ref{}, false, err
	}
	f, ok := merged[p]
	return l.sources[f.source], f.ref, ok, nil
}

// parallelIndexes is how many packs' indexes are read at a time.
const parallelIndexes = 16

// merge reads the indexes of all packs of the layer, several at a time.
func (l *layer) merge() (map[wal.Pgno]found, error) {
	refs := make([][]pack.Ref, len(l.sources))
	var g errgroup.Group
	g.SetLimit(parallelIndexes)
	for i, s := range l.sources {
		g.Go(func() (err error) {
			refs[i], err = s.shown()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	merged := make(map[wal.Pgno]found)
	for i := range refs {
		for _, ref := range refs[i] {
			// A newer pack's version stays; within a pack the later one is newer.
			if f, ok := merged[ref.Pgno]; !ok || f.source == int32(i) {
				merged[ref.Pgno] = found{int32(i), ref}
			}
		}
	}
	return merged, nil
}

// shown returns the versions of s that count.
func (s source) shown() ([]pack.Ref, error) {
	refs := make([]pack.Ref, 0, s.Info().Versions)
	for ref, err := range s.Refs(0) {
		if err != nil {
			return nil, err
		}
		if ref.TXID <= s.max {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}
