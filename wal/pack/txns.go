package pack

import (
	"sort"

	"github.com/walback/walback/wal"
)

// Txns returns the transactions of the pack, ascending. The slice is the
// caller's.
func (r *Reader) Txns() ([]wal.TxnInfo, error) {
	switch r.root.Txns {
	case 1:
		return []wal.TxnInfo{r.root.First}, nil
	case 2:
		return []wal.TxnInfo{r.root.First, r.root.Last}, nil
	}
	var txns []wal.TxnInfo
	for n := range r.root.tables {
		part, err := r.table(n)
		if err != nil {
			return nil, err
		}
		txns = append(txns, part...)
	}
	return txns, nil
}

// Txn returns transaction id, and false when it is not of this pack. It reads
// at most one block of the transaction table.
func (r *Reader) Txn(id wal.TXID) (wal.TxnInfo, bool, error) {
	switch {
	case id < r.root.First.ID || id > r.root.Last.ID:
		return wal.TxnInfo{}, false, nil
	case id == r.root.First.ID:
		return r.root.First, true, nil
	case id == r.root.Last.ID:
		return r.root.Last, true, nil
	}
	i := int(id - r.root.First.ID)
	part, err := r.table(i / txnsPerTable)
	if err != nil {
		return wal.TxnInfo{}, false, err
	}
	return part[i%txnsPerTable], true, nil
}

// TxnAt returns the last transaction committed at or before t, and false when
// the first of the pack came later. It reads at most one block of the
// transaction table.
func (r *Reader) TxnAt(t wal.Time) (wal.TxnInfo, bool, error) {
	switch {
	case t < r.root.First.Time:
		return wal.TxnInfo{}, false, nil
	case t >= r.root.Last.Time:
		return r.root.Last, true, nil
	case len(r.root.tables) == 0:
		return r.root.First, true, nil
	}
	delay := uint64(t - r.root.First.Time)
	n := sort.Search(len(r.root.tables), func(i int) bool { return r.root.tables[i].delay > delay }) - 1
	part, err := r.table(n)
	if err != nil {
		return wal.TxnInfo{}, false, err
	}
	return part[sort.Search(len(part), func(i int) bool { return part[i].Time > t })-1], true, nil
}
