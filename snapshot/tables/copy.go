package tables

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/walback/walback/wal"
)

// batchSize is how much of a tree is read before it is written, in bytes.
const batchSize = 4 << 20

// CopyTo writes a new database with the tables of s to w, and returns how many
// pages it has. progress, unless nil, is told of bytes as they are written.
// After an error, what w holds is no database. Memory is bounded by batchSize
// and the depth of trees.
func (s *Selection) CopyTo(ctx context.Context, w io.WriterAt, progress func(bytes int64)) (wal.Pgno, error) {
	if progress == nil {
		progress = func(int64) {}
	}
	c := &copier{
		Database: s.db,
		ctx:      ctx,
		out:      &output{w: w, pageSize: s.db.source.PageSize(), usable: s.db.usable, last: 1, mapped: s.db.vacuum, progress: progress},
		budget:   int64(s.db.pages),
	}
	if err := c.database(s); err != nil {
		return 0, err
	}
	return c.out.last, nil
}

// copier copies trees.
type copier struct {
	*Database
	ctx    context.Context
	out    *output
	budget int64 // pages that may be read yet: a tree that leads in circles runs out of it
}

// database writes everything.
func (c *copier) database(s *Selection) error {
	roots := make([]wal.Pgno, len(s.entries))
	var largest wal.Pgno
	for i, e := range s.entries {
		if e.root == 0 {
			continue
		}
		var err error
		if roots[i], err = c.out.alloc(mapRoot, 0); err != nil {
			return err
		}
		largest = roots[i]
	}
	var rows [][]byte
	for i, e := range s.entries {
		row := append([]value(nil), e.row...)
		if e.root != 0 {
			row[rootColumn] = integerValue(int64(roots[i]))
		}
		rows = append(rows, encodeRecord(row))
	}
	if err := c.out.table(1, rows); err != nil {
		return err
	}
	for i, e := range s.entries {
		var err error
		switch {
		case e.name == sequence:
			err = c.sequence(s, e, roots[i])
		case e.root != 0:
			err = c.tree(e.root, roots[i])
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", e.kind, e.name, err)
		}
	}
	return c.finish(largest)
}

// sequence writes the rows of sqlite_sequence that belong to the tables of s.
func (c *copier) sequence(s *Selection, e entry, root wal.Pgno) error {
	var rows [][]byte
	for row, err := range c.records(e.root) {
		if err != nil {
			return err
		}
		if len(row) > 0 && s.has(c.text(row[0])) {
			rows = append(rows, encodeRecord(row))
		}
	}
	return c.out.table(root, rows)
}

// finish writes the header, which needs the number of pages.
func (c *copier) finish(largest wal.Pgno) error {
	h := append([]byte(nil), c.header...)
	binary.BigEndian.PutUint32(h[sizeAt:], uint32(c.out.last))
	binary.BigEndian.PutUint64(h[freelistAt:], 0) // its first page, and how many there are
	copy(h[validForAt:validForAt+4], h[changeCounterAt:])
	if c.vacuum {
		binary.BigEndian.PutUint32(h[largestRootAt:], uint32(max(largest, 1)))
	}
	if err := c.out.flushMap(); err != nil {
		return err
	}
	return c.out.writeAt(h, 0)
}

// tree copies the tree whose root is page from; its new root is page to.
func (c *copier) tree(from, to wal.Pgno) error {
	page, err := c.read(from)
	if err != nil {
		return err
	}
	n, err := parseNode(page, 0, c.usable)
	if err != nil {
		return fmt.Errorf("page %d: %w", from, err)
	}
	return c.node(page, from, to, n.table(), 0)
}

// link is a page to copy and its new number.
type link struct{ from, to wal.Pgno }

// node copies a page that has been read, and what is below it. table is what
// kind of tree it is in.
func (c *copier) node(page []byte, from, to wal.Pgno, table bool, depth int) error {
	n, err := parseNode(page, 0, c.usable)
	if err == nil && (depth == maxDepth || n.table() != table) {
		err = fmt.Errorf("%w: it does not belong where it is", ErrDamaged)
	}
	if err == nil {
		err = c.spend(1)
	}
	var children []link
	if err == nil {
		children, err = c.renumber(n, to)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", from, err)
	}
	if err := c.out.write(to, page); err != nil {
		return err
	}
	most := max(batchSize/len(page), 16)
	for len(children) > 0 {
		batch := children[:min(most, len(children))]
		children = children[len(batch):]
		numbers := make([]wal.Pgno, len(batch))
		for i, l := range batch {
			numbers[i] = l.from
		}
		pages, err := c.readAll(c.ctx, numbers)
		if err != nil {
			return err
		}
		if err := c.warm(pages); err != nil {
			return err
		}
		for i, l := range batch {
			if err := c.node(pages[i], l.from, l.to, table, depth+1); err != nil {
				return err
			}
			pages[i] = nil
		}
	}
	return nil
}

// spend counts n pages that were read.
func (c *copier) spend(n int64) error {
	if c.budget -= n; c.budget < 0 {
		return fmt.Errorf("%w: more pages lead to others than there are", ErrDamaged)
	}
	return c.ctx.Err()
}

// renumber gives the children of n, which will be page to, their new numbers,
// copies the overflow of its entries, and returns the children.
func (c *copier) renumber(n node, to wal.Pgno) ([]link, error) {
	var children []link
	child := func(at int) error {
		l := link{from: pgnoAt(n.page, at)}
		var err error
		l.to, err = c.out.alloc(mapNode, to)
		setPgno(n.page, at, l.to)
		children = append(children, l)
		return err
	}
	var long []cell
	for i := range n.cells {
		entry, err := n.cell(i)
		if err == nil && entry.child != 0 {
			err = child(entry.child)
		}
		if err != nil {
			return nil, err
		}
		if entry.overflow != 0 {
			long = append(long, entry)
		}
	}
	if n.interior() {
		if err := child(n.rightmost()); err != nil {
			return nil, err
		}
	}
	for _, entry := range long {
		if err := c.overflow(n.page, to, entry); err != nil {
			return nil, err
		}
	}
	return children, nil
}

// overflow copies the pages in which an entry of the page goes on.
func (c *copier) overflow(page []byte, parent wal.Pgno, entry cell) error {
	at, kind := entry.overflow, byte(mapOverflow)
	var before wal.Pgno // the page that is to be written, when its next is known
	for left := entry.payload - uint64(len(entry.local)); left > 0; {
		if err := c.spend(1); err != nil {
			return err
		}
		next, err := c.read(pgnoAt(page, at))
		if err != nil {
			return err
		}
		to, err := c.out.alloc(kind, parent)
		if err != nil {
			return err
		}
		setPgno(page, at, to)
		if before != 0 {
			if err := c.out.write(before, page); err != nil {
				return err
			}
		}
		page, at, before, parent, kind = next, 0, to, to, mapMoreOverflow
		left -= min(left, uint64(c.usable-4))
	}
	setPgno(page, at, 0)
	return c.out.write(before, page)
}

// warm reads the first overflow pages of all entries of pages at the same time,
// so that those who cache them have them when they are copied one by one.
func (c *copier) warm(pages [][]byte) error {
	var first []wal.Pgno
	for _, page := range pages {
		n, err := parseNode(page, 0, c.usable)
		if err != nil {
			continue // told when it is copied
		}
		for i := range n.cells {
			if entry, err := n.cell(i); err == nil && entry.overflow != 0 {
				first = append(first, pgnoAt(page, entry.overflow))
			}
		}
	}
	if len(first) < 2 {
		return nil
	}
	_, err := c.readAll(c.ctx, first)
	return err
}
