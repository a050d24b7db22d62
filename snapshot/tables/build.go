package tables

import (
	"encoding/binary"

	"github.com/walback/walback/wal"
)

// Lengths of what a page of a table begins with, in bytes; of a pointer to a
// cell; and of the longest cell of an interior page.
const (
	leafHead     = 8
	interiorHead = 12
	pointer      = 2
	longestInner = 4 + 9
)

// branch is a page of a table that is being made: a leaf with the rows from
// first to last (excluded), or an interior page above others. Row i has the
// number i+1.
type branch struct {
	first, last int
	children    []*branch // none: a leaf
}

// table writes a table of a few rows, with pages of its own but for the root.
func (o *output) table(root wal.Pgno, rows [][]byte) error {
	head := 0
	if root == 1 {
		head = wal.DatabaseHeaderSize
	}
	if only, fits := o.leaves(rows, o.usable-head); fits && len(only) == 1 {
		return o.branch(only[0], root, head, rows)
	}
	level, _ := o.leaves(rows, o.usable)
	for len(level) > fanOut(o.usable-head) {
		level = above(level, fanOut(o.usable))
	}
	return o.branch(&branch{children: level}, root, head, rows)
}

// fanOut returns how many children an interior page with so much room can have.
func fanOut(room int) int { return (room-interiorHead)/(longestInner+pointer) + 1 }

// leaves spreads rows over leaves that have room for so many bytes; false when
// one does not fit, which happens only beside the header of the database.
func (o *output) leaves(rows [][]byte, room int) (leaves []*branch, fit bool) {
	leaf := &branch{}
	leaves = []*branch{leaf}
	left := room - leafHead
	for i, row := range rows {
		need := pointer + o.cellSize(i, row)
		if need > left && leaf.first < i {
			leaf = &branch{first: i}
			leaves = append(leaves, leaf)
			left = room - leafHead
		}
		leaf.last = i + 1
		left -= need
		fit = left >= 0
	}
	return leaves, fit || len(rows) == 0
}

// above returns pages that lead to those of level, at most so many each, evenly.
func above(level []*branch, most int) []*branch {
	n := (len(level) + most - 1) / most
	var up []*branch
	for i := range n {
		children := level[i*len(level)/n : (i+1)*len(level)/n]
		up = append(up, &branch{last: children[len(children)-1].last, children: children})
	}
	return up
}

// cellSize returns how long the cell of row i is.
func (o *output) cellSize(i int, row []byte) int {
	local := localSize(uint64(len(row)), o.usable, true)
	size := len(appendVarint(appendVarint(nil, uint64(len(row))), uint64(i+1))) + local
	if local < len(row) {
		size += 4
	}
	return size
}

// branch writes b as page p, whose header begins at offset head, and what is
// below it.
func (o *output) branch(b *branch, p wal.Pgno, head int, rows [][]byte) error {
	page := make([]byte, o.pageSize)
	content, at := o.usable, head+leafHead // cells are put in from the end
	add := func(cell []byte) {
		content -= len(cell)
		copy(page[content:], cell)
		binary.BigEndian.PutUint16(page[at:], uint16(content))
		at += pointer
	}
	count := len(b.children) - 1
	if page[head] = interiorTable; len(b.children) == 0 {
		page[head] = leafTable
		count = b.last - b.first
		for i := b.first; i < b.last; i++ {
			cell, err := o.cell(i, rows[i], p)
			if err != nil {
				return err
			}
			add(cell)
		}
	} else {
		at = head + interiorHead
	}
	for i, child := range b.children {
		to, err := o.alloc(mapNode, p)
		if err != nil {
			return err
		}
		if err := o.branch(child, to, 0, rows); err != nil {
			return err
		}
		if i == count {
			setPgno(page, head+leafHead, to)
			break
		}
		add(appendVarint(binary.BigEndian.AppendUint32(nil, uint32(to)), uint64(child.last)))
	}
	binary.BigEndian.PutUint16(page[head+3:], uint16(count))
	binary.BigEndian.PutUint16(page[head+5:], uint16(content)) // 65536 is written as 0
	return o.write(p, page)
}

// cell returns the cell of row i for page p, and writes its overflow.
func (o *output) cell(i int, row []byte, p wal.Pgno) ([]byte, error) {
	local := localSize(uint64(len(row)), o.usable, true)
	cell := appendVarint(appendVarint(nil, uint64(len(row))), uint64(i+1))
	cell = append(cell, row[:local]...)
	rest := row[local:]
	if len(rest) == 0 {
		return cell, nil
	}
	next, err := o.alloc(mapOverflow, p)
	if err != nil {
		return nil, err
	}
	cell = binary.BigEndian.AppendUint32(cell, uint32(next))
	for len(rest) > 0 {
		page, this := make([]byte, o.pageSize), next
		n := copy(page[4:o.usable], rest)
		if rest = rest[n:]; len(rest) > 0 {
			if next, err = o.alloc(mapMoreOverflow, this); err != nil {
				return nil, err
			}
			setPgno(page, 0, next)
		}
		if err := o.write(this, page); err != nil {
			return nil, err
		}
	}
	return cell, nil
}
