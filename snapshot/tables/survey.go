package tables

import (
	"context"
	"fmt"

	"github.com/walback/walback/wal"
)

// Survey calls visit with the pages of all trees of s, as far as they are known
// without reading leaves, which are nearly all of them: so without the overflow
// of long rows.
func (s *Selection) Survey(ctx context.Context, visit func(wal.Pgno) error) error {
	v := &surveyor{Database: s.db, ctx: ctx, visit: visit, budget: int64(s.db.pages)}
	for _, e := range s.entries {
		if e.root == 0 {
			continue
		}
		if err := v.below([]wal.Pgno{e.root}, 0); err != nil {
			return fmt.Errorf("%s %s: %w", e.kind, e.name, err)
		}
	}
	return nil
}

type surveyor struct {
	*Database
	ctx    context.Context
	visit  func(wal.Pgno) error
	budget int64 // pages that may be visited yet
}

// below visits pages of one height, and what is below them. All leaves of a tree
// are of one height, so one of the pages tells what the others are.
func (v *surveyor) below(pages []wal.Pgno, depth int) error {
	if v.budget -= int64(len(pages)); v.budget < 0 || depth == maxDepth {
		return fmt.Errorf("%w: more pages lead to others than there are", ErrDamaged)
	}
	for _, p := range pages {
		if err := v.visit(p); err != nil {
			return err
		}
	}
	first, err := v.node(pages[0])
	if err != nil || !first.interior() {
		return err
	}
	read, err := v.readAll(v.ctx, pages)
	if err != nil {
		return err
	}
	for i, page := range read {
		children, err := v.children(page)
		if err != nil {
			return fmt.Errorf("page %d: %w", pages[i], err)
		}
		if err := v.below(children, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// children returns where an interior page leads.
func (v *surveyor) children(page []byte) ([]wal.Pgno, error) {
	n, err := parseNode(page, 0, v.usable)
	if err == nil && !n.interior() {
		err = fmt.Errorf("%w: a leaf beside interior pages", ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	var children []wal.Pgno
	for i := range n.cells {
		c, err := n.cell(i)
		if err != nil {
			return nil, err
		}
		children = append(children, pgnoAt(page, c.child))
	}
	return append(children, pgnoAt(page, n.rightmost())), nil
}
