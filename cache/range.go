package cache

import (
	"context"

	"github.com/walback/walback/wal/pack"
)

var _ pack.RangeReader = (*object)(nil)

// ReadRange implements pack.RangeReader. A range goes from the store to p and
// nowhere else, unless all of it is kept: it is asked for once, and would drive out
// what is read at random.
func (o *object) ReadRange(ctx context.Context, p []byte, off int64, arrived func(n int)) error {
	if off < 0 || off+int64(len(p)) > o.size {
		_, err := o.ReadAt(p, off)
		return err
	}
	if o.distrusted.Load() == 0 && len(o.missing(span{off - off%ChunkSize, int64(len(p)) + off%ChunkSize})) == 0 &&
		len(o.readKept(p, off)) == 0 {
		return nil
	}
	// Closing the cache ends the request, and so does ctx.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(o.cache.ctx, cancel)()
	f := &fetch{off: off, buf: p, fresh: true, arrived: arrived}
	f.more.L = &f.mu
	return f.fetchRest(ctx, o)
}
