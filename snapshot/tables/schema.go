package tables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/walback/walback/wal"
)

// Source is where the pages of a database come from. It may be asked for
// several at the same time. A *snapshot.View is one.
type Source interface {
	// ReadPage reads page p into dst, which has the length of a page.
	ReadPage(p wal.Pgno, dst []byte) error
	PageSize() int // bytes
	Size() int64   // bytes
}

// ErrNoTable is what the error matches when a name is not that of a table that
// can be taken.
var ErrNoTable = errors.New("no table to restore")

// noTable says why a name is not that of a table that can be taken.
type noTable string

func (e noTable) Error() string   { return string(e) }
func (e noTable) Is(t error) bool { return t == ErrNoTable }

// Database is a database of which the schema has been read.
type Database struct {
	source   Source
	pages    wal.Pgno
	usable   int // bytes of a page that are not reserved
	header   []byte
	encoding uint32 // of text: 1 is UTF-8, 2 UTF-16 little-endian, 3 big-endian
	vacuum   bool   // there is a pointer map
	schema   []entry
}

// Where the header of a database says something (SQLite file format §1.3).
const (
	changeCounterAt = 24
	sizeAt          = 28
	freelistAt      = 32 // its first page, and how many there are
	largestRootAt   = 52 // 0: no pointer map
	encodingAt      = 56
	validForAt      = 92
)

// entry is a row of the schema.
type entry struct {
	kind, name, table, sql string
	root                   wal.Pgno // 0: a view, a trigger, a virtual table
	row                    []value
}

// Columns of the schema.
const (
	kindColumn = iota
	nameColumn
	tableColumn
	rootColumn
	sqlColumn
	schemaColumns
)

// sequence is the table in which SQLite counts for those with AUTOINCREMENT.
const sequence = "sqlite_sequence"

// Open reads the header and the schema.
func Open(s Source) (*Database, error) {
	d := &Database{source: s, pages: wal.Pgno(s.Size() / int64(s.PageSize()))}
	page, err := d.read(1)
	if err != nil {
		return nil, err
	}
	h, err := wal.ParseDatabaseHeader(page)
	if err != nil {
		return nil, err
	}
	if h.PageSize != len(page) {
		return nil, fmt.Errorf("%w: its header tells of pages of %d bytes, not %d", ErrDamaged, h.PageSize, len(page))
	}
	d.header = page[:wal.DatabaseHeaderSize]
	d.usable = h.PageSize - h.Reserved
	d.encoding = binary.BigEndian.Uint32(page[encodingAt:])
	d.vacuum = binary.BigEndian.Uint32(page[largestRootAt:]) != 0
	for row, err := range d.records(1) {
		if err != nil {
			return nil, fmt.Errorf("reading the schema: %w", err)
		}
		if len(row) < schemaColumns {
			return nil, fmt.Errorf("reading the schema: %w: a row of %d columns", ErrDamaged, len(row))
		}
		d.schema = append(d.schema, entry{
			kind:  d.text(row[kindColumn]),
			name:  d.text(row[nameColumn]),
			table: d.text(row[tableColumn]),
			sql:   d.text(row[sqlColumn]),
			root:  wal.Pgno(row[rootColumn].integer()),
			row:   row,
		})
	}
	return d, nil
}

// text returns v as text, "" when it is none.
func (d *Database) text(v value) string {
	if !v.isText() {
		return ""
	}
	var order binary.ByteOrder
	switch d.encoding {
	case 2:
		order = binary.LittleEndian
	case 3:
		order = binary.BigEndian
	default:
		return string(v.body)
	}
	units := make([]uint16, len(v.body)/2)
	for i := range units {
		units[i] = order.Uint16(v.body[2*i:])
	}
	return string(utf16.Decode(units))
}

// same compares names as SQLite does: the letters of ASCII are the same in
// either case, no others.
func same(a, b string) bool { return lower(a) == lower(b) }

func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// Names returns the tables that can be taken, in the order of the schema.
func (d *Database) Names() []string {
	var names []string
	for _, e := range d.schema {
		if e.kind == "table" && e.root != 0 && !internal(e.name) {
			names = append(names, e.name)
		}
	}
	return names
}

// internal reports whether a table is SQLite's own.
func internal(name string) bool { return strings.HasPrefix(lower(name), "sqlite_") }

// Selection is some tables of a database, with their indexes and triggers.
type Selection struct {
	db      *Database
	names   []string
	entries []entry // in the order of the schema
}

// Select chooses tables by name. The error matches ErrNoTable when one is not
// there, or is none that can be taken by itself.
func (d *Database) Select(names ...string) (*Selection, error) {
	s := &Selection{db: d}
	for _, name := range names {
		e, err := d.find(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(s.names, e.name) {
			s.names = append(s.names, e.name)
		}
	}
	counts := false
	for _, e := range d.schema {
		if e.kind != "view" && s.has(e.table) {
			s.entries = append(s.entries, e)
			counts = counts || strings.Contains(lower(e.sql), "autoincrement")
		}
	}
	if counts {
		for _, e := range d.schema {
			if e.kind == "table" && e.name == sequence {
				s.entries = append(s.entries, e)
			}
		}
	}
	return s, nil
}

// Names returns the tables as they are written in the schema.
func (s *Selection) Names() []string { return s.names }

func (s *Selection) has(table string) bool {
	return slices.ContainsFunc(s.names, func(name string) bool { return same(name, table) })
}

// find returns the table called name, or says why it cannot be taken.
func (d *Database) find(name string) (entry, error) {
	i := slices.IndexFunc(d.schema, func(e entry) bool {
		return (e.kind == "table" || e.kind == "view") && same(e.name, name)
	})
	switch {
	case i < 0:
		return entry{}, noTable(fmt.Sprintf("there is no table %q; there are %s", name, d.some()))
	case d.schema[i].kind == "view":
		return entry{}, noTable(fmt.Sprintf("%q is a view: restore the tables that it shows", name))
	case internal(name):
		return entry{}, noTable(fmt.Sprintf("%q is SQLite's own", name))
	case d.schema[i].root == 0:
		return entry{}, noTable(fmt.Sprintf("%q is a virtual table, whose content only its module can read: restore the whole database", name))
	}
	return d.schema[i], nil
}

// some lists tables for a message.
func (d *Database) some() string {
	const most = 10
	var names []string
	for _, name := range d.Names() {
		names = append(names, strconv.Quote(name))
	}
	switch more := len(names) - most; {
	case len(names) == 0:
		return "none"
	case more > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}
