package generations

import (
	"context"
	"fmt"
	"time"
)

// alone makes sure that no other writer has gone on in g, unless that was known
// less than limit ago. What stops a second writer is that it cannot create the key
// of the next segment again. But once segments are merged, their keys are free
// after a grace. So a writer that was stopped for long (a machine suspended, or
// its copy begun) has to look before it puts: if the other one has put more than
// one segment, the newest of them is there, since that is never merged.
func (w *Writer) alone(ctx context.Context, g *lineage, limit time.Duration) error {
	w.mu.Lock()
	known, next := g.alone, g.Mark.Txn.ID+1
	w.mu.Unlock()
	if elapsed(known) < limit {
		return nil
	}
	began := time.Now()
	prefix := generationPrefix(w.client, g.ID) + walDir + "/"
	for e, err := range w.shipper.store.List(ctx, prefix, g.segment(w.client, next).Key()) {
		if err != nil {
			return err
		}
		if o, err := ParseKey(e.Key); err == nil && o.Kind == SegmentObject && o.First > next {
			return &conflictError{what: fmt.Sprintf("the store has %s, which another writer has put behind transaction %d, the last one put here", e.Key, next-1)}
		}
	}
	w.mu.Lock()
	g.alone = began
	w.mu.Unlock()
	return nil
}

// elapsed returns how long ago t was by either clock: the monotonic one stands
// still while the machine is suspended, the other one may be set.
func elapsed(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}
