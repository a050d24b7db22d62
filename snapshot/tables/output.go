package tables

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/walback/walback/wal"
)

// Kinds of entries of a pointer map (SQLite file format §1.8), which tells for
// each page who points to it.
const (
	mapRoot         = 1
	mapOverflow     = 3 // the first overflow page of an entry
	mapMoreOverflow = 4
	mapNode         = 5
)

// mapEntry is the length of an entry of a pointer map, in bytes.
const mapEntry = 5

// lockByte is where the page begins that SQLite locks and never writes.
const lockByte = 1 << 30

// output is a database that is being written.
type output struct {
	w        io.WriterAt
	pageSize int
	usable   int
	last     wal.Pgno // the last page that has a number
	progress func(int64)

	mapped  bool     // there is a pointer map
	mapPage []byte   // the page of it that is being filled
	mapPgno wal.Pgno // 0: none yet
}

// alloc returns the number of a new page. Numbers ascend. parent is who points
// to it: nobody to a root.
func (o *output) alloc(kind byte, parent wal.Pgno) (wal.Pgno, error) {
	for {
		if o.last >= math.MaxUint32-1 {
			return 0, fmt.Errorf("%w: too many pages", ErrDamaged)
		}
		o.last++
		if o.last != o.lockPage() && !(o.mapped && o.mapOf(o.last) == o.last) {
			break
		}
	}
	if !o.mapped {
		return o.last, nil
	}
	if p := o.mapOf(o.last); p != o.mapPgno {
		if err := o.flushMap(); err != nil {
			return 0, err
		}
		o.mapPage, o.mapPgno = make([]byte, o.pageSize), p
	}
	at := mapEntry * int(o.last-o.mapPgno-1)
	o.mapPage[at] = kind
	binary.BigEndian.PutUint32(o.mapPage[at+1:], uint32(parent))
	return o.last, nil
}

// lockPage is the page that SQLite locks and never writes.
func (o *output) lockPage() wal.Pgno { return wal.Pgno(lockByte/o.pageSize) + 1 }

// mapOf returns the page of the pointer map that tells of page p.
func (o *output) mapOf(p wal.Pgno) wal.Pgno {
	run := wal.Pgno(o.usable/mapEntry) + 1 // it and those it tells of
	m := (p-2)/run*run + 2
	if m == o.lockPage() {
		m++
	}
	return m
}

// flushMap writes the page of the pointer map that is being filled.
func (o *output) flushMap() error {
	if o.mapPgno == 0 {
		return nil
	}
	return o.write(o.mapPgno, o.mapPage)
}

// write writes page p.
func (o *output) write(p wal.Pgno, page []byte) error {
	return o.writeAt(page, int64(p-1)*int64(o.pageSize))
}

func (o *output) writeAt(b []byte, off int64) error {
	if _, err := o.w.WriteAt(b, off); err != nil {
		return fmt.Errorf("writing the database: %w", err)
	}
	o.progress(int64(len(b)))
	return nil
}
