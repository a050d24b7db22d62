package generations

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/walback/walback/wal"
)

// states keeps the checksums of all pages as recent saved transactions left
// them, in a file of the spool, so that a generation can go on from any of these
// when the database turns out to have gone back to it (or on from it, unseen).
// The file has a full record and behind it what every saved transaction changed;
// see stateRecord. It is appended to whenever a piece is saved, and written anew
// when what was changed has outgrown the full record.
//
// A fork is a record whose transaction in front is not the one of the record in
// front; so the file has a tree, of which a chain leads to each transaction.
//
// The file is not synced: a power loss can cost its end, or all of it. What
// is taken from it is proved by the checksum of the database.
//
// Writer.saving guards it.
type states struct {
	spool *Spool
	path  string
	end   int64    // of the records, in bytes
	full  int64    // length of the first one
	last  stateKey // newest
	// off: there is no record of the last saved transaction, so none can follow.
	off bool
}

// minStates is how many bytes of increments are kept before they are compacted
// at least: of small transactions, some eight thousand. While they are compacted,
// a gate may wait.
const minStates = 1 << 20

// chain is the records that lead to a transaction: a full one, and increments.
type chain struct {
	file    *os.File
	records []stateRecord
}

// chain opens the file and returns what leads to the newest transaction in it
// that g has saved or goes on from. The chain is empty when there is none.
func (s *states) chain(g *lineage) (chain, error) {
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return chain{}, nil
	}
	if err != nil {
		return chain{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return chain{}, errors.Join(err, f.Close())
	}
	all, _, err := readStates(f, info.Size())
	if err != nil {
		return chain{}, errors.Join(err, f.Close())
	}
	return chain{f, link(all, g)}, nil
}

// close lets go of the file, which was only read.
func (c chain) close() {
	if c.file != nil {
		c.file.Close()
	}
}

// link returns those of all that lead to the newest transaction of them that g
// has saved or goes on from, ascending; none when they lead to no full record.
func link(all []stateRecord, g *lineage) []stateRecord {
	at := make(map[stateKey]int, len(all))
	for i, r := range all {
		at[r.at()] = i // a later one of the same name is from after the other was lost
	}
	i, ok := newest(all, g.ID, g.mark.Txn.ID)
	if !ok && g.Parent != nil {
		i, ok = newest(all, g.Parent.Generation, g.Parent.Txn)
	}
	var found []stateRecord
	for ; ok; i, ok = at[all[i].front()] {
		found = append(found, all[i])
		if all[i].full {
			slices.Reverse(found)
			return found
		}
	}
	return nil
}

// newest returns which of all is of the last transaction of g up to id.
func newest(all []stateRecord, g ID, id wal.TXID) (found int, ok bool) {
	for i, r := range all {
		if r.generation == g && r.txn.ID <= id && (!ok || r.txn.ID >= all[found].txn.ID) {
			found, ok = i, true
		}
	}
	return found, ok
}

// find returns how many records of c lead to transaction id; 0 when it is none
// of them, or fuzzy.
func (c chain) find(id wal.TXID) int {
	i := slices.IndexFunc(c.records, func(r stateRecord) bool { return r.txn.ID == id && !r.fuzzy })
	return i + 1
}

// sums returns the checksums as the first n records of c tell them, proved by
// the checksum of the database.
func (c chain) sums(n int) (*wal.PageSums, error) {
	var sums *wal.PageSums
	var err error
	in := bufio.NewReaderSize(nil, 64<<10) // one for all: there are thousands of small ones
	for _, r := range c.records[:n] {
		if sums, err = r.apply(c.file, in, sums); err != nil {
			return nil, fmt.Errorf("states: transaction %d of generation %s: %w", r.txn.ID, r.generation, err)
		}
	}
	last := c.records[n-1]
	if !last.fuzzy && sums.Total() != last.txn.Checksum {
		return nil, fmt.Errorf("states: transaction %d of generation %s: the pages have checksum %s, recorded is %s",
			last.txn.ID, last.generation, sums.Total(), last.txn.Checksum)
	}
	return sums, nil
}

// load finds out what an earlier process has left, of which the transactions of
// g up to its mark are of use, and removes what is torn.
func (s *states) load(g *lineage) error {
	s.off = true
	f, err := os.OpenFile(s.path, os.O_RDWR|syscall.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() // a truncation is all that is written
	info, err := f.Stat()
	if err != nil {
		return err
	}
	all, end, err := readStates(f, info.Size())
	if err != nil {
		return err
	}
	if end < info.Size() {
		if err := f.Truncate(end); err != nil {
			return err
		}
	}
	s.end = end
	found := link(all, g)
	if len(found) == 0 {
		return nil
	}
	s.full, s.last, s.off = found[0].length(), found[len(found)-1].at(), false
	lost := func(r stateRecord) bool { return r.generation == g.ID && r.txn.ID > g.mark.Txn.ID }
	if slices.ContainsFunc(all, lost) { // others will have their place, which these must not be taken for
		err = s.compact(g)
	}
	return err
}

// change is what a transaction made of a database.
type change struct {
	stateRecord
	pages []wal.Frame // only Pgno and Sum
}

// changesOf returns what txns, transactions of g, change.
func changesOf(g *lineage, txns []*wal.Txn) []change {
	changes := make([]change, len(txns))
	for i, txn := range txns {
		changes[i] = change{g.state(txn.TxnInfo, len(txn.Frames)), txn.Frames}
	}
	return changes
}

// state returns the head of a record for a transaction of g.
func (g *lineage) state(txn wal.TxnInfo, pages int) stateRecord {
	r := stateRecord{generation: g.ID, before: g.ID, txn: txn, pageSize: g.PageSize, sums: uint32(pages)}
	if g.Parent != nil && g.Parent.Txn+1 == txn.ID {
		r.before = g.Parent.Generation
	}
	return r
}

// follow adds changes of g, which are saved. Each follows the one before it, and
// the first the transaction in front of it, of which there is a record. After an
// error there will be no more records until a generation begins.
func (s *states) follow(g *lineage, changes []change) error {
	if s.off || len(changes) == 0 {
		return nil
	}
	err := s.append(changes)
	if err == nil && s.end-s.full > max(minStates, s.full) {
		err = s.compact(g)
	}
	if err != nil {
		s.off = true
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// goBack makes r, of which there is a record, what is followed next.
func (s *states) goBack(r stateRecord) { s.last, s.off = r.at(), false }

func (s *states) append(changes []change) error {
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	for _, c := range changes {
		w := newStateWriter(out, c.stateRecord)
		for _, p := range c.pages {
			w.add(p.Pgno, p.Sum)
		}
		if err := w.finish(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(s.path, os.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b.Bytes(), s.end)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	s.end += int64(b.Len())
	s.last = changes[len(changes)-1].at()
	return nil
}

// compact writes the file anew, with as many of the newest transactions of g as
// take half of what is allowed for.
func (s *states) compact(g *lineage) error {
	c, err := s.chain(g)
	if err != nil {
		return err
	}
	defer c.close()
	if n := len(c.records); n == 0 || c.records[n-1].at() != s.last {
		return fmt.Errorf("states: nothing leads to transaction %d of generation %s", s.last.txn, s.last.generation)
	}
	first, kept := len(c.records)-1, int64(0)
	for first > 0 && kept+c.records[first].length() <= max(minStates, s.full)/2 {
		kept += c.records[first].length()
		first--
	}
	sums, err := c.sums(first + 1)
	if err != nil {
		return err
	}
	base := c.records[first]
	base.full, base.sums = true, uint32(sums.Size())
	return s.replace(base, func(f io.Writer) error {
		w := newStateWriter(bufio.NewWriter(f), base)
		for p := wal.Pgno(1); p <= sums.Size(); p++ {
			w.add(p, sums.At(p))
		}
		if err := w.finish(); err != nil {
			return err
		}
		for _, run := range runs(c.records[first+1:]) {
			if _, err := io.Copy(f, run.of(c.file)); err != nil {
				return err
			}
		}
		s.end = base.length() + kept
		return nil
	})
}

// run is a part of the file.
type run struct{ off, length int64 }

func (r run) of(f io.ReaderAt) io.Reader { return io.NewSectionReader(f, r.off, r.length) }

// runs returns where records lie, those that lie behind each other in one.
func runs(records []stateRecord) []run {
	var found []run
	for _, r := range records {
		if n := len(found); n > 0 && found[n-1].off+found[n-1].length == r.off {
			found[n-1].length += r.length()
			continue
		}
		found = append(found, run{r.off, r.length()})
	}
	return found
}

// replace writes the file anew by write, beginning with the full record base.
func (s *states) replace(base stateRecord, write func(io.Writer) error) error {
	f, err := s.spool.create()
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		return errors.Join(err, f.drop())
	}
	if err := f.keepAs(s.path); err != nil {
		return err
	}
	s.full, s.off = base.length(), false
	return nil
}
