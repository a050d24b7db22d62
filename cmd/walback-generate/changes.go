package main

import (
	"cmp"
	"io"
	"slices"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// changes finds out how small everything that transactions wrote can be: all
// versions of a run of many transactions as one pack, as large as a merged
// segment ought to be.
type changes struct {
	raw int64 // bytes of pages

	txns       []wal.TxnInfo
	versions   []version
	held       int64 // bytes of pages of versions
	pageSize   int
	compressed int64
}

type version struct {
	pgno wal.Pgno
	id   wal.TXID
	page []byte
}

// Bounds of a run.
const (
	runTxns  = 10_000
	runBytes = 256 << 20
)

// packing is how packs are written whose size is of interest.
var packing = pack.WriterOptions{Concurrency: 2}

// add takes in a transaction.
func (c *changes) add(t *wal.Txn) error {
	for _, f := range t.Frames {
		page := make([]byte, t.PageSize)
		if _, err := t.Source.ReadAt(page, f.Off); err != nil {
			return err
		}
		c.versions = append(c.versions, version{f.Pgno, t.ID, page})
	}
	n := int64(len(t.Frames)) * int64(t.PageSize)
	c.raw, c.held, c.pageSize = c.raw+n, c.held+n, t.PageSize
	c.txns = append(c.txns, t.TxnInfo)
	if len(c.txns) < runTxns && c.held < runBytes {
		return nil
	}
	return c.pack()
}

// pack packs what has been added.
func (c *changes) pack() error {
	slices.SortFunc(c.versions, func(a, b version) int {
		return cmp.Or(cmp.Compare(a.pgno, b.pgno), cmp.Compare(a.id, b.id))
	})
	w := pack.NewWriter(io.Discard, pack.Segment, c.pageSize, pack.Place{}, packing)
	for _, v := range c.versions {
		if err := w.Add(v.pgno, v.id, v.page); err != nil {
			return err
		}
	}
	n, err := w.Finish(c.txns, wal.Mark{Txn: c.txns[len(c.txns)-1], PageSize: c.pageSize})
	*c = changes{raw: c.raw, compressed: c.compressed + n}
	return err
}

// finish returns how many bytes the packs of everything have.
func (c *changes) finish() (int64, error) {
	if len(c.txns) == 0 {
		return c.compressed, nil
	}
	err := c.pack()
	return c.compressed, err
}
