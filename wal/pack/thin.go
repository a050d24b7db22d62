package pack

import (
	"errors"
	"fmt"
	"io"

	"github.com/walback/walback/wal"
)

// A thinned segment is what is left of segments when some of their transactions
// are not to be looked at any more. It has all of the transactions, so whatever
// lies over it or under it stays right, but of each page only those versions that
// are the newest as of some needed transaction. Of a transaction that is not
// needed, only the size of the database is true, and the time if the one in front
// of it is needed: it tells until when that was the newest.

// Thin writes what is needed of the segments in, which are as Merge takes them or
// have been thinned before, as one thinned segment to w. What overlaps is taken from
// the one in front, and what is in front of from is left out. The last transaction
// of all must be needed.
func Thin(w io.Writer, place Place, o WriterOptions, from wal.TXID, needed func(wal.TXID) bool, in ...*Reader) (Info, error) {
	if len(in) == 0 {
		return Info{}, errors.New("pack: nothing to thin")
	}
	txns, shares, err := mergeTxns(in, false) // one that was thinned tells less
	if err != nil {
		return Info{}, err
	}
	for len(txns) > 1 && txns[0].ID < from {
		txns = txns[1:]
	}
	for i := range shares {
		shares[i].first = max(shares[i].first, txns[0].ID)
	}
	first, last := txns[0].ID, txns[len(txns)-1]
	if !needed(last.ID) {
		return Info{}, fmt.Errorf("thinning %s: transaction %d, the last one, has to be needed", place.Name, last.ID)
	}
	next := blank(txns, needed)
	o.Thinned = true
	pw := NewWriter(w, Segment, in[0].root.PageSize, place, o)
	var held Version // the version in front, which may be superseded
	write := func() error {
		if held.Pgno == 0 {
			return nil
		}
		return pw.AddSummed(held.Pgno, held.TXID, held.Data, held.Sum)
	}
	err = mergeVersions(shares, func(v Version) error {
		if v.Pgno != held.Pgno || next[held.TXID-first] < v.TXID {
			if err := write(); err != nil {
				return err
			}
		}
		held = Version{v.Pgno, v.TXID, append(held.Data[:0], v.Data...), v.Sum}
		return nil
	})
	if err == nil {
		err = write()
	}
	if err != nil {
		return Info{}, err
	}
	// What comes behind goes on from where the last segment ends.
	if _, err := pw.Finish(txns, shares[len(shares)-1].root.Mark); err != nil {
		return Info{}, err
	}
	return pw.Info(), nil
}

// blank takes from txns what is not kept of those that are not needed, and returns
// for each the first one from it on that is.
func blank(txns []wal.TxnInfo, needed func(wal.TXID) bool) (next []wal.TXID) {
	next = make([]wal.TXID, len(txns))
	inFront := true
	for i := range txns {
		t := &txns[i]
		is := needed(t.ID)
		if !is {
			t.Pages, t.Checksum = 0, 0
			if !inFront { // as early as can be, which takes no room
				t.Time = txns[i-1].Time + 1
			}
		}
		inFront = is
	}
	for i := len(txns) - 1; i >= 0; i-- {
		if next[i] = txns[i].ID; !needed(txns[i].ID) {
			next[i] = next[i+1]
		}
	}
	return next
}
