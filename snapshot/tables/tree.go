package tables

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/wal"
)

// maxDepth is how many pages lie above each other at most: with two children
// each they would hold more pages than a database can have.
const maxDepth = 34

// read returns page p as new memory.
func (d *Database) read(p wal.Pgno) ([]byte, error) {
	if p == 0 || p > d.pages {
		return nil, fmt.Errorf("%w: page %d of %d", ErrDamaged, p, d.pages)
	}
	page := make([]byte, d.source.PageSize())
	return page, d.source.ReadPage(p, page)
}

// readers is how many pages are read at a time.
const readers = 32

// readAll returns pages, which are read at the same time.
func (d *Database) readAll(ctx context.Context, numbers []wal.Pgno) ([][]byte, error) {
	pages := make([][]byte, len(numbers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for i, p := range numbers {
		g.Go(func() (err error) {
			if err = ctx.Err(); err == nil {
				pages[i], err = d.read(p)
			}
			return err
		})
	}
	return pages, g.Wait()
}

// node returns the page p of a b-tree.
func (d *Database) node(p wal.Pgno) (node, error) {
	page, err := d.read(p)
	if err != nil {
		return node{}, err
	}
	head := 0
	if p == 1 {
		head = wal.DatabaseHeaderSize
	}
	n, err := parseNode(page, head, d.usable)
	if err != nil {
		err = fmt.Errorf("page %d: %w", p, err)
	}
	return n, err
}

// records yields the rows of a small table: they are for the schema and its
// like, and held whole.
func (d *Database) records(root wal.Pgno) iter.Seq2[[]value, error] {
	return func(yield func([]value, error) bool) {
		budget := int(d.pages)
		d.walk(root, &budget, 0, yield)
	}
}

// walk yields the rows at and below page p; false when no more are wanted.
// budget is how many pages may be read yet: a tree that leads in circles runs
// out of it.
func (d *Database) walk(p wal.Pgno, budget *int, depth int, yield func([]value, error) bool) bool {
	fail := func(err error) bool {
		yield(nil, err)
		return false
	}
	if *budget--; *budget < 0 || depth == maxDepth {
		return fail(fmt.Errorf("%w: page %d leads in circles", ErrDamaged, p))
	}
	n, err := d.node(p)
	if err == nil && !n.table() {
		err = fmt.Errorf("%w: page %d is of an index, not of a table", ErrDamaged, p)
	}
	if err != nil {
		return fail(err)
	}
	for i := range n.cells {
		c, err := n.cell(i)
		if err != nil {
			return fail(fmt.Errorf("page %d: %w", p, err))
		}
		if n.interior() {
			if !d.walk(pgnoAt(n.page, c.child), budget, depth+1, yield) {
				return false
			}
			continue
		}
		values, err := d.record(n, c, budget)
		if err != nil {
			return fail(fmt.Errorf("page %d: %w", p, err))
		}
		if !yield(values, nil) {
			return false
		}
	}
	return !n.interior() || d.walk(pgnoAt(n.page, n.rightmost()), budget, depth+1, yield)
}

// record returns the row that c is, with its overflow.
func (d *Database) record(n node, c cell, budget *int) ([]value, error) {
	b := slices.Clone(c.local)
	page, next := n.page, c.overflow
	for uint64(len(b)) < c.payload {
		if *budget--; *budget < 0 {
			return nil, fmt.Errorf("%w: a row goes on in circles", ErrDamaged)
		}
		var err error
		if page, err = d.read(pgnoAt(page, next)); err != nil {
			return nil, err
		}
		more := min(c.payload-uint64(len(b)), uint64(d.usable-4))
		b, next = append(b, page[4:4+more]...), 0
	}
	return parseRecord(b)
}
