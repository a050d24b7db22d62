package pack

import "github.com/walback/walback/wal"

// Verify reads the whole object and proves that it is what Writer wrote: every
// block, the order of all keys, and that header, root, index, transaction table
// and versions agree. The pages of a snapshot that is not fuzzy must have its
// checksum.
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
	rootAt := r.size - trailerSize
	if err := checkTxns(r.root.Info, txns); err != nil {
		return r.corrupt(rootAt, "%v", err)
	}
	if shrinks(txns) != r.root.Shrinks {
		return r.corrupt(rootAt, "root and transaction table differ on whether the database shrinks")
	}
	versions := make(map[wal.TXID]*added)
	last := wal.Pgno(0)
	sum := newImageSum(r.root.PageSize)
	for v, err := range r.All(0) {
		if err != nil {
			return err
		}
		a := versions[v.TXID]
		if a == nil {
			a = new(added)
			versions[v.TXID] = a
		}
		a.pages, a.max, last = a.pages+1, v.Pgno, v.Pgno
		if r.root.Kind == Snapshot {
			sum.add(v)
		}
	}
	if err := checkAdded(r.root.Kind, txns, versions); err != nil {
		return r.corrupt(rootAt, "%v", err)
	}
	if last != r.root.MaxPgno {
		return r.corrupt(rootAt, "the last page is %d, and %d by the root", last, r.root.MaxPgno)
	}
	if r.root.Kind == Snapshot && !r.root.Fuzzy {
		if got := sum.of(r.root.First.Size); got != r.root.First.Checksum {
			return r.corrupt(rootAt, "the pages have checksum %s, want %s", got, r.root.First.Checksum)
		}
	}
	return nil
}

// imageSum computes the checksum of a database from its pages in ascending
// order; those left out are zeros.
type imageSum struct {
	zero []byte
	last wal.Pgno
	sum  wal.Checksum
}

func newImageSum(pageSize int) *imageSum { return &imageSum{zero: make([]byte, pageSize)} }

func (s *imageSum) add(v Version) {
	s.of(v.Pgno - 1)
	s.sum ^= wal.PageSum(v.Pgno, v.Data)
	s.last = v.Pgno
}

// of returns the checksum of a database of size pages.
func (s *imageSum) of(size wal.Pgno) wal.Checksum {
	for s.last < size {
		s.last++
		s.sum ^= wal.PageSum(s.last, s.zero)
	}
	return s.sum
}
