package generations

import (
	"context"
	"errors"
	"slices"
)

// sweep has deleted what is not of a client's generations any more because of their
// editions, whoever made these: what was thinned, what maps have taken the place of,
// and what prunings have made that came to nothing.
func (p *Pruning) sweep(ctx context.Context, client string) error {
	var order []ID
	found := make(map[ID][]Object)
	newest := make(map[ID]Object) // edition
	for e, err := range p.store.List(ctx, clientPrefix(client), "") {
		if err != nil {
			return err
		}
		o, err := ParseKey(e.Key)
		if err != nil || o.Client != client {
			continue
		}
		if len(found[o.Generation]) == 0 {
			order = append(order, o.Generation)
		}
		found[o.Generation] = append(found[o.Generation], o)
		if o.Kind == EditionObject {
			newest[o.Generation] = o // they come in their order
		}
	}
	oldest := true // nothing is left of older generations
	for _, g := range order {
		o, pruned := newest[g]
		if !pruned {
			oldest = false
			continue
		}
		e, err := fetchEdition(ctx, p.store, o)
		if errors.Is(err, ErrNotFound) { // somebody else has been here
			oldest = false
			continue
		}
		if err != nil {
			return err
		}
		p.sweepGeneration(found[g], o, e, oldest)
		oldest = oldest && e.gone()
	}
	return nil
}

// sweepGeneration has deleted what is not of a generation any more. Of one that is
// gone, an edition stays as long as there are older ones: it tells why nothing is
// there. What says what the rest is goes last.
func (p *Pruning) sweepGeneration(found []Object, newest Object, e *Edition, oldest bool) {
	var last []Object
	for _, o := range found {
		switch {
		case o.Kind == ManifestObject && e.gone(), o == newest && e.gone() && oldest:
			last = append(last, o)
		case o.Kind == EditionObject && o.First < newest.First, e.supersedes(o):
			p.leave(o)
		}
	}
	for _, o := range slices.Backward(last) { // the edition, whose key comes first
		p.leave(o)
	}
}
