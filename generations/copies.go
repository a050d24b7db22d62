package generations

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Bounds of the copies, of all databases together.
const (
	mostCopied = 256 << 20 // bytes, and never more than a quarter of the spool
	mostCopies = 1024      // files
)

// copies are segments that have been shipped and are to be merged, kept for a
// while on local disk: merging then costs no Get. They are the first to go when
// the spool needs room, the oldest before the others, and with the process.
type copies struct {
	spool  *Spool
	most   int64 // bytes
	logger *slog.Logger

	mu    sync.Mutex
	files []localCopy // oldest first
	bytes int64
}

type localCopy struct {
	Object
	path string
	size int64
}

func newCopies(s *Spool, limit int64, log *slog.Logger) *copies {
	return &copies{spool: s, most: min(limit/4, mostCopied), logger: log}
}

// keep keeps a copy of seg, which is stored as o, if all copies may have so many
// bytes.
func (c *copies) keep(o Object, seg segment, bytes int64) error {
	size := seg.body.Size()
	if bytes = min(bytes, c.most); size > bytes || c.spool.spare(size) != nil {
		return nil
	}
	path, err := c.write(seg)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files = append(c.files, localCopy{o, path, size})
	c.bytes += size
	c.shrink(bytes)
	return nil
}

// write makes a file of the spool that has what seg has, and returns its path.
func (c *copies) write(seg segment) (string, error) {
	if seg.file != nil { // one more name: the other one goes when seg is done
		path := filepath.Join(c.spool.tmpDir(), "copy-"+filepath.Base(seg.file.Name()))
		return path, os.Link(seg.file.Name(), path)
	}
	f, err := c.spool.create()
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(f, io.NewSectionReader(seg.body, 0, seg.body.Size())); err != nil {
		return "", errors.Join(err, f.drop())
	}
	return f.Name(), f.Close()
}

// open returns the copy of o; false when there is none.
func (c *copies) open(o Object) (*os.File, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.files, func(l localCopy) bool { return l.Object == o })
	if i < 0 {
		return nil, false
	}
	f, err := os.Open(c.files[i].path)
	return f, err == nil
}

// forget removes the copies of what has been merged.
func (c *copies) forget(run []member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files = slices.DeleteFunc(c.files, func(l localCopy) bool {
		gone := slices.ContainsFunc(run, func(p member) bool { return p.Object == l.Object })
		if gone {
			c.remove(l)
		}
		return gone
	})
}

// leave makes the copies come to no more than so many bytes.
func (c *copies) leave(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shrink(bytes)
}

// shrink removes the oldest copies until the others are within bounds. The caller
// holds mu.
func (c *copies) shrink(bytes int64) {
	n := 0
	for n < len(c.files) && (c.bytes > bytes || len(c.files)-n > mostCopies) {
		c.remove(c.files[n])
		n++
	}
	c.files = slices.Delete(c.files, 0, n)
}

// remove removes the file of l; the next start removes one that it could not. The
// caller holds mu and drops the entry.
func (c *copies) remove(l localCopy) {
	c.bytes -= l.size
	if err := os.Remove(l.path); err != nil {
		c.logger.Warn("the copy of a segment cannot be removed from the spool", "error", err)
	}
}
