package pack

import (
	"fmt"

	"github.com/walback/walback/wal"
)

// check reports what is wrong with the transactions of a pack whose versions
// have all been added.
func (w *Writer) check(txns []wal.TxnInfo, mark wal.Mark) error {
	if err := checkTxns(w.root.Info, txns); err != nil {
		return err
	}
	last := txns[len(txns)-1]
	if mark.Txn != last {
		return fmt.Errorf("the mark is of transaction %d, the last one is %d, or they differ otherwise", mark.Txn.ID, last.ID)
	}
	if mark.PageSize != w.root.PageSize || !mark.Log.IsZero() && mark.Log.PageSize != mark.PageSize {
		return fmt.Errorf("the mark is of pages of %d bytes, its log position of %d, the pack of %d",
			mark.PageSize, mark.Log.PageSize, w.root.PageSize)
	}
	return checkAdded(w.root.Info, txns, w.added)
}

// checkTxns reports what is wrong with the transactions of a pack.
func checkTxns(info Info, txns []wal.TxnInfo) error {
	switch {
	case len(txns) == 0 || len(txns) > maxTxns:
		return fmt.Errorf("%d transactions, want 1 to %d", len(txns), maxTxns)
	case info.Kind != Segment && len(txns) != 1:
		return fmt.Errorf("a snapshot or map is of one transaction, not of %d", len(txns))
	case txns[0].ID == 0 || txns[len(txns)-1].ID > wal.MaxTXID:
		return fmt.Errorf("transactions %d to %d: want numbers from 1 to %d", txns[0].ID, txns[len(txns)-1].ID, wal.MaxTXID)
	case info.Fuzzy && txns[0].Checksum != 0:
		return fmt.Errorf("a fuzzy snapshot with a checksum, %s", txns[0].Checksum)
	}
	for i := 1; i < len(txns); i++ {
		if err := adjoin(txns[i-1], txns[i]); err != nil {
			return err
		}
	}
	return nil
}

// adjoin reports why b cannot be the transaction that follows a.
func adjoin(a, b wal.TxnInfo) error {
	if b.ID != a.ID+1 {
		return fmt.Errorf("transaction %d follows transaction %d", b.ID, a.ID)
	}
	if b.Time <= a.Time {
		return fmt.Errorf("transaction %d of %s follows transaction %d of %s: times must increase", b.ID, b.Time, a.ID, a.Time)
	}
	return nil
}

// tally counts the versions of each transaction.
type tally struct {
	of    map[wal.TXID]*added
	spare []added
}

// added are the versions of one transaction. They come in the order of pages, so
// max is the last one's.
type added struct{ pages, max wal.Pgno }

func newTally() tally { return tally{of: make(map[wal.TXID]*added)} }

func (t *tally) add(p wal.Pgno, id wal.TXID) {
	a := t.of[id]
	if a == nil {
		if len(t.spare) == 0 { // there may be many transactions
			t.spare = make([]added, min(max(len(t.of), 1), 1024))
		}
		a, t.spare = &t.spare[0], t.spare[1:]
		t.of[id] = a
	}
	a.pages, a.max = a.pages+1, p
}

// checkAdded compares txns with the versions a pack has of them.
func checkAdded(info Info, txns []wal.TxnInfo, versions tally) error {
	seen := 0
	for _, t := range txns {
		a := versions.of[t.ID]
		if a == nil {
			a = new(added)
		} else {
			seen++
		}
		if a.max > t.Size {
			return fmt.Errorf("page %d of transaction %d, after which the database has %d pages", a.max, t.ID, t.Size)
		}
		if info.Kind == Segment && !info.Thinned && a.pages != t.Pages {
			return fmt.Errorf("%d pages of transaction %d, which wrote %d", a.pages, t.ID, t.Pages)
		}
	}
	if seen != len(versions.of) {
		return fmt.Errorf("versions of %d transactions that are not among %d to %d",
			len(versions.of)-seen, txns[0].ID, txns[len(txns)-1].ID)
	}
	return nil
}
