package generations

import (
	"context"
	"slices"

	"github.com/walback/walback/wal/pack"
)

// storedSegments lists the segments of a generation that no pruning has made, in
// key order.
func storedSegments(ctx context.Context, s Store, client string, g ID) ([]PlanObject, error) {
	var found []PlanObject
	for e, err := range s.List(ctx, generationPrefix(client, g)+walDir+"/", "") {
		if err != nil {
			return nil, err
		}
		if o, err := ParseKey(e.Key); err == nil && o.Kind == SegmentObject && o.Pruning == 0 && o.Client == client {
			found = append(found, PlanObject{Object: o, Size: e.Size})
		}
	}
	return found, nil
}

// leftover is a merged segment, and what it is made of as far as that is still in
// the store.
type leftover struct {
	member
	left []PlanObject
}

// takeInventory sorts the segments of one generation that a store has listed, in
// key order: into those that make it up, ascending, and those whose place others
// have taken.
func takeInventory(stored []PlanObject) (parts []member, found []leftover) {
	chosen := make(map[Object]bool)
	for _, s := range coverSpans(stored, nil) {
		parts = append(parts, member{PlanObject: s.PlanObject, last: s.last, rank: rankOf(s.Object)})
		chosen[s.Object] = true
	}
	left := make([][]PlanObject, len(parts))
	for _, o := range stored {
		if chosen[o.Object] || o.Final() { // somebody may refer to a final one
			continue
		}
		i := slices.IndexFunc(parts, func(p member) bool {
			return p.Last != 0 && p.First <= o.First && max(o.First, o.Last) <= p.last
		})
		if i >= 0 {
			left[i] = append(left[i], o)
		}
	}
	for i, some := range left {
		if len(some) > 0 {
			found = append(found, leftover{parts[i], some})
		}
	}
	return parts, found
}

// rankOf is a guess at how many merges a segment has come through.
func rankOf(o Object) int {
	if o.Last == 0 {
		return 0
	}
	return 1
}

// redundant returns those of some whose transactions are all in p: its name says
// that they should be, but what is deleted must be. One that is not was put by a
// writer that did not know it had been stopped; it is left alone.
func (m *merger) redundant(ctx context.Context, p member, some []PlanObject) ([]member, error) {
	inputs, done, err := m.open(ctx, []member{p})
	if err != nil {
		return nil, err
	}
	defer done()
	txns, err := inputs[0].Txns()
	if err != nil {
		return nil, err
	}
	first := txns[0].ID
	has := func(info pack.Info) bool {
		return info.First.ID >= first && info.Last.ID <= p.last &&
			txns[info.First.ID-first] == info.First && txns[info.Last.ID-first] == info.Last
	}
	var found []member
	for _, o := range some {
		r, err := pack.Open(storedBytes{ctx, m.store, o.Key()}, o.Size, o.Place(), pack.ReaderOptions{})
		if isVanished(err) {
			continue
		}
		if err != nil {
			return found, err
		}
		if has(r.Info()) {
			found = append(found, member{PlanObject: o, last: r.Info().Last.ID})
		}
	}
	return found, nil
}
