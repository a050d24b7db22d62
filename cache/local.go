package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"syscall"
	"weak"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal/pack"
)

// localShare returns how many files of the spool may be open: an eighth of the
// descriptors of this process. While the store is down a view may consist of
// thousands of pieces, and capture needs descriptors more than the past does.
func localShare() int64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 64
	}
	return int64(min(limit.Cur/8, 1<<20))
}

func (c *Cache) openLocal(id objectID, o generations.PlanObject) (*pack.Reader, error) {
	if c.spool == nil {
		return nil, fmt.Errorf("opening %s: not in the store and no spool to look in: %w", o.Key(), fs.ErrNotExist)
	}
	if c.localOpen.Add(1) > c.localMost {
		c.localOpen.Add(-1)
		runtime.GC() // lets go of those that nobody uses: the next attempt may succeed
		return nil, fmt.Errorf("opening %s: %d files that wait to be shipped are open: %w", o.Key(), c.localMost, syscall.ENFILE)
	}
	r, file, err := c.openPiece(id, o)
	if err != nil {
		c.localOpen.Add(-1)
		return nil, fmt.Errorf("opening %s: %w", o.Key(), err)
	}
	c.localMu.Lock()
	defer c.localMu.Unlock()
	c.local[o.Key()] = weak.Make(r)
	runtime.AddCleanup(r, c.closeLocal, file)
	runtime.AddCleanup(r, c.forgetLocal, o.Key())
	return r, nil
}

// openPiece opens the pack in o, which reads from the file.
func (c *Cache) openPiece(id objectID, o generations.PlanObject) (*pack.Reader, io.Closer, error) {
	f, _, err := c.spool.Open(o.Key())
	if err != nil {
		return nil, nil, err
	}
	r, err := pack.Open(f, o.Size, o.Place(), pack.ReaderOptions{Memory: objectBlocks{c.blocks, id, nil}})
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return r, f, nil
}

// closeLocal closes the file of a pack that nobody refers to any more. It was
// only read: that cannot fail in a way that matters.
func (c *Cache) closeLocal(f io.Closer) {
	f.Close()
	c.localOpen.Add(-1)
}

// forgetLocal drops the entry of a pack that nobody refers to any more, unless
// it has been opened again.
func (c *Cache) forgetLocal(key string) {
	c.localMu.Lock()
	defer c.localMu.Unlock()
	if c.local[key].Value() == nil {
		delete(c.local, key)
	}
}
