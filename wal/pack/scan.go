package pack

import (
	"iter"

	"github.com/walback/walback/wal"
)

// cursor goes through the versions of a pack in key order, one group in memory
// at a time.
type cursor struct {
	r      *Reader
	next   func() (Ref, error, bool)
	stop   func()
	group  int
	off    int64 // of group
	pages  *Pages
	slot   int    // of page
	page   []byte // the last one, when pages are differences
	stored []byte // memory for the stored bytes of the group
	buf    []byte // memory for decoding it
}

func (r *Reader) cursor(from wal.Pgno) *cursor {
	c := &cursor{r: r, group: -1}
	c.next, c.stop = iter.Pull2(r.Refs(from))
	return c
}

// read returns the next version, or false at the end. The data is valid until
// the next call.
func (c *cursor) read() (Version, bool, error) {
	ref, err, ok := c.next()
	if err != nil || !ok {
		return Version{}, false, err
	}
	if ref.Group != c.group {
		if err := c.load(ref.Group); err != nil {
			return Version{}, false, err
		}
	}
	page := c.at(ref.Slot)
	if err := c.r.checkPage(ref, c.off, page); err != nil {
		return Version{}, false, err
	}
	return Version{ref.Pgno, ref.TXID, page, ref.Sum}, true, nil
}

func (c *cursor) load(group int) error {
	e, _, err := c.r.extent(group)
	if err != nil {
		return err
	}
	if cap(c.stored) < e.Stored {
		c.stored = make([]byte, 0, e.Stored)
	}
	if c.buf == nil {
		c.buf = []byte{} // nothing may lie in c.stored
	}
	if c.pages, err = c.r.readGroup(c.buf, c.stored, group, e); err != nil {
		return err
	}
	c.buf = c.pages.stored()
	c.group, c.off, c.slot = group, e.Off, -1
	return nil
}

// at returns the page at slot, which is not in front of the one it returned last.
func (c *cursor) at(slot int) []byte {
	n := c.r.root.PageSize
	if c.pages.at == nil {
		return c.pages.plain[slot*n:][:n:n]
	}
	if c.page == nil {
		c.page = make([]byte, n)
	}
	for c.slot < slot {
		c.slot++
		c.pages.advance(c.page, c.slot)
	}
	return c.page
}

// All yields the versions in the order of (page, transaction), beginning with
// page from. The data is valid until the next is asked for. An error ends it.
func (r *Reader) All(from wal.Pgno) iter.Seq2[Version, error] {
	return func(yield func(Version, error) bool) {
		c := r.cursor(from)
		defer c.stop()
		for {
			v, ok, err := c.read()
			if err != nil {
				yield(Version{}, err)
				return
			}
			if !ok || !yield(v, nil) {
				return
			}
		}
	}
}
