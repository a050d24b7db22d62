package generations

import (
	"bufio"
	"errors"
	"fmt"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// stateBase is the first record of a new generation, which is written beside
// the image. It takes the place of the file when the generation is there.
type stateBase struct {
	record stateRecord
	file   *spoolFile
	sums   *stateWriter
	err    error // the first one
}

// begin begins the record of the image that the generation g begins with.
func (s *states) begin(g ID, base wal.Base) *stateBase {
	txn := base.Mark.Txn
	b := &stateBase{record: stateRecord{
		generation: g, txn: txn, pageSize: base.Mark.PageSize, full: true, fuzzy: base.Fuzzy, sums: uint32(txn.Size),
	}}
	if b.file, b.err = s.spool.create(); b.err == nil {
		b.sums = newStateWriter(bufio.NewWriter(b.file), b.record)
	}
	return b
}

// add adds a page of the image.
func (b *stateBase) add(p wal.Page) {
	if b.err == nil {
		b.sums.add(p.Pgno, wal.PageSum(p.Pgno, p.Data))
	}
}

// keep makes the file begin with b. After an error there are no states of the
// generation.
func (s *states) keep(b *stateBase) error {
	err := b.err
	if err == nil {
		err = b.sums.finish()
	}
	if err == nil {
		err = b.file.keepAs(s.path)
		b.file = nil
	}
	if err != nil {
		s.off = true
		return errors.Join(fmt.Errorf("spool: %w", err), b.drop())
	}
	s.full = b.record.length()
	s.end, s.last, s.off = s.full, b.record.at(), false
	s.era++
	return nil
}

// drop throws b away.
func (b *stateBase) drop() error {
	if b.file == nil {
		return nil
	}
	return b.file.drop()
}

// complete adds what a killed process, or a power loss, has left out and is
// still in the spool: the image that g begins with, and its pieces.
func (s *states) complete(client string, g *lineage) error {
	if s.off && g.needsBase() {
		if err := s.fromImage(g, g.object(client, SnapshotObject)); err != nil {
			return err
		}
	}
	for _, p := range g.pieces {
		next := s.last.txn + 1
		if s.off || p.Last < next {
			continue
		}
		changes, err := s.spool.changes(g, p, next)
		if err == nil {
			err = s.follow(g, changes)
		}
		if err != nil {
			return err
		}
	}
	s.off = s.off || s.last.txn != g.mark.Txn.ID
	return nil
}

// fromImage begins the file with an image of the spool.
func (s *states) fromImage(g *lineage, o Object) error {
	r, done, err := s.spool.openPack(o)
	if err != nil {
		return err
	}
	defer done() // only read
	b := s.begin(g.ID, wal.Base{Mark: r.Info().Mark, Fuzzy: r.Info().Fuzzy})
	for v, err := range r.All(0) {
		if err != nil {
			return errors.Join(err, b.drop())
		}
		b.add(wal.Page{Pgno: v.Pgno, Data: v.Data})
	}
	return s.keep(b)
}

// changes reads from a piece of g what the transactions from first on changed.
func (s *Spool) changes(g *lineage, p piece, first wal.TXID) ([]change, error) {
	r, done, err := s.openPack(p.Object)
	if err != nil {
		return nil, err
	}
	defer done() // only read
	txns, err := r.Txns()
	if err != nil {
		return nil, err
	}
	if txns[0].ID > first {
		return nil, fmt.Errorf("the states end before transaction %d", txns[0].ID)
	}
	pages, err := pageChanges(r, first)
	if err != nil {
		return nil, err
	}
	var changes []change
	for _, txn := range txns[first-txns[0].ID:] {
		changes = append(changes, change{g.state(txn, len(pages[txn.ID])), pages[txn.ID]})
	}
	return changes, nil
}

// pageChanges returns which pages the transactions of a pack from first on
// wrote, with their checksums.
func pageChanges(r *pack.Reader, first wal.TXID) (map[wal.TXID][]wal.Frame, error) {
	pages := make(map[wal.TXID][]wal.Frame)
	for v, err := range r.All(0) {
		if err != nil {
			return nil, err
		}
		if v.TXID >= first {
			pages[v.TXID] = append(pages[v.TXID], wal.Frame{Pgno: v.Pgno, Sum: wal.PageSum(v.Pgno, v.Data)})
		}
	}
	return pages, nil
}
