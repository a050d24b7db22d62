package snapshot

import (
	"cmp"
	"slices"
	"sort"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/wal"
)

// cut tells that a transaction left the database with size pages, fewer than
// any later transaction up to the view's did: all versions of pages above size
// that are older are gone.
type cut struct {
	id   wal.TXID
	size wal.Pgno
}

// isCut reports whether the version of page p that transaction id wrote was cut
// off by a later transaction.
func (v *View) isCut(p wal.Pgno, id wal.TXID) (bool, error) {
	cuts, err := v.cuts.get(v.findCuts)
	if err != nil {
		return false, err
	}
	// Sizes descend with the transactions, so the first cut below p is the latest.
	i := sort.Search(len(cuts), func(i int) bool { return cuts[i].size < p })
	return i < len(cuts) && id < cuts[i].id, nil
}

// findCuts returns the cuts, latest first. It reads the transaction table of
// packs within which the database shrinks. Of the others the first transaction
// is enough: a version lies within the size of its own transaction, so as long
// as the sizes ascend no later one can cut it off.
func (v *View) findCuts() ([]cut, error) {
	txns := make([][]wal.TxnInfo, len(v.sources))
	var g errgroup.Group
	g.SetLimit(parallelIndexes)
	for i, s := range v.sources {
		info := s.Info()
		txns[i] = []wal.TxnInfo{info.First}
		if info.Shrinks {
			g.Go(func() (err error) {
				txns[i], err = s.Txns()
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var all []cut
	for i, s := range v.sources {
		for _, t := range txns[i] {
			if t.ID <= s.max {
				all = append(all, cut{t.ID, t.Size})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b cut) int { return cmp.Compare(b.id, a.id) })
	var cuts []cut
	for _, c := range all {
		if n := len(cuts); n == 0 || c.size < cuts[n-1].size {
			cuts = append(cuts, c)
		}
	}
	return cuts, nil
}
