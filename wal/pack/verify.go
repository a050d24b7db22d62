package pack

import "github.com/walback/walback/wal"

// Verify reads the whole object and proves that it is what Writer wrote: every
// block, the order of all keys, and that header, root, index, transaction table
// and versions agree. The pages of a snapshot that is not fuzzy, or of a map wherever
// they lie, must have its checksum.
func (r *Reader) Verify() error {
	header := make([]byte, headerSize)
	if err := r.readAt(header, 0); err != nil {
		return err
	}
	if err := r.checkHeader(header); err != nil {
		return err
	}
	txns, err := r.Txns()
	if err != nil {
		return err
	}
	if err := checkTxns(r.root.Info, txns); err != nil {
		return r.corrupt(r.rootAt, "%v", err)
	}
	if shrinks(txns) != r.root.Shrinks {
		return r.corrupt(r.rootAt, "root and transaction table differ on whether the database shrinks")
	}
	versions := newTally()
	last := wal.Pgno(0)
	sums := wal.NewPageSums(r.root.PageSize) // of a snapshot or map
	for v, err := range r.All(0) {
		if err != nil {
			return err
		}
		versions.add(v.Pgno, v.TXID)
		last = v.Pgno
		if r.root.Kind != Segment {
			sums.Set(v.Pgno, wal.PageSum(v.Pgno, v.Data))
		}
	}
	if err := checkAdded(r.root.Info, txns, versions); err != nil {
		return r.corrupt(r.rootAt, "%v", err)
	}
	if r.root.mapped != nil {
		if err := r.verifyRefs(); err != nil {
			return err
		}
	} else if last != r.root.MaxPgno {
		return r.corrupt(r.rootAt, "the last page is %d, and %d by the root", last, r.root.MaxPgno)
	}
	if r.root.Kind != Segment && !r.root.Fuzzy {
		sums.Resize(r.root.First.Size, r.root.PageSize) // pages left out are zeros
		if got := sums.Total(); got != r.root.First.Checksum {
			return r.corrupt(r.rootAt, "the pages have checksum %s, want %s", got, r.root.First.Checksum)
		}
	}
	return nil
}
