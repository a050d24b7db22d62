package tables

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/walback/walback/wal"
)

// ErrDamaged is what the error matches when the database is one that SQLite
// would call malformed.
var ErrDamaged = errors.New("the database is malformed")

// Kinds of pages of a b-tree (SQLite file format §1.6). The interior ones lead
// to others.
const (
	interiorIndex = 2
	interiorTable = 5
	leafIndex     = 10
	leafTable     = 13
)

// node is a page of a b-tree.
type node struct {
	kind   byte
	page   []byte
	usable int // bytes of the page that are not reserved
	cells  int
	at     int // where the pointers to the cells begin
}

// parseNode parses the header of a page, which begins at offset head.
func parseNode(page []byte, head, usable int) (node, error) {
	n := node{kind: page[head], page: page, usable: usable, cells: int(binary.BigEndian.Uint16(page[head+3:])), at: head + 8}
	switch n.kind {
	case leafIndex, leafTable:
	case interiorIndex, interiorTable:
		n.at += 4
	default:
		return node{}, fmt.Errorf("%w: a page of kind %d where a table or index goes on", ErrDamaged, n.kind)
	}
	if n.at+2*n.cells > usable {
		return node{}, fmt.Errorf("%w: a page with %d cells", ErrDamaged, n.cells)
	}
	return n, nil
}

func (n node) interior() bool { return n.kind == interiorIndex || n.kind == interiorTable }

// table reports whether the tree has rows by number; other trees have keys.
func (n node) table() bool { return n.kind == interiorTable || n.kind == leafTable }

// rightmost is where the number of the last child stands in an interior page.
func (n node) rightmost() int { return n.at - 4 }

// cell is an entry of a page.
type cell struct {
	child    int // where the number of the child in front of it stands, 0: nowhere
	rowid    int64
	payload  uint64
	local    []byte // the part of the payload that is in the page
	overflow int    // where the number of the page with the next part stands, 0: nowhere
}

// cell returns entry i.
func (n node) cell(i int) (cell, error) {
	at := int(binary.BigEndian.Uint16(n.page[n.at+2*i:]))
	var c cell
	ok := at >= n.at+2*n.cells
	if n.interior() {
		c.child, at = at, at+4
	}
	if n.kind != interiorTable {
		c.payload, at, ok = n.varint(at, ok)
	}
	if n.table() {
		var id uint64
		id, at, ok = n.varint(at, ok)
		c.rowid = int64(id)
	}
	if n.kind != interiorTable && ok {
		local := localSize(c.payload, n.usable, n.table())
		end := at + local
		if uint64(local) < c.payload {
			c.overflow, end = end, end+4
		}
		if ok = end <= n.usable; ok {
			c.local = n.page[at : at+local]
		}
	}
	if !ok || at > n.usable {
		return cell{}, fmt.Errorf("%w: entry %d of a page lies outside of it", ErrDamaged, i)
	}
	return c, nil
}

func (n node) varint(at int, ok bool) (uint64, int, bool) {
	if !ok || at >= n.usable {
		return 0, at, false
	}
	v, size := varint(n.page[at:n.usable])
	return v, at + size, size > 0
}

// localSize returns how much of a payload stays in its page (SQLite file format
// §1.6, "the amount of payload that spills").
func localSize(payload uint64, usable int, table bool) int {
	most := (usable-12)*64/255 - 23
	if table {
		most = usable - 35
	}
	if payload <= uint64(most) {
		return int(payload)
	}
	least := (usable-12)*32/255 - 23
	if n := least + int((payload-uint64(least))%uint64(usable-4)); n <= most {
		return n
	}
	return least
}

// pgnoAt returns the page number that stands at offset at.
func pgnoAt(page []byte, at int) wal.Pgno { return wal.Pgno(binary.BigEndian.Uint32(page[at:])) }

func setPgno(page []byte, at int, p wal.Pgno) { binary.BigEndian.PutUint32(page[at:], uint32(p)) }
