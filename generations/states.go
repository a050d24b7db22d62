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
	// era changes whenever anything but an increment is done to the file.
	era int
	// compacting is not nil while it is written anew, and then closed.
	compacting chan struct{}
}

// minStates is how many bytes of increments are kept before they are compacted
// at least: of small transactions, some eight thousand. A quarter of them stays.
const minStates = 1 << 20

// maxStates is how many times as many there may be when nobody has come to compact
// them: whoever saves does it then.
const maxStates = 16

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
	all, _, err := readStates(f, s.end)
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
	in := stateReader{file: c.file, in: bufio.NewReaderSize(nil, 64<<10)}
	for _, r := range c.records[:n] {
		if sums, err = r.apply(&in, sums); err != nil {
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
	if err == nil && s.outgrown(maxStates) {
		err = s.compact(g)
	}
	return s.ended(err)
}

// ended notes that err, if any, keeps records from being added.
func (s *states) ended(err error) error {
	if err == nil {
		return nil
	}
	s.off = true
	return fmt.Errorf("spool: %w", err)
}

// outgrown reports whether there are so many times as many increments as are to
// be kept.
func (s *states) outgrown(times int64) bool {
	return !s.off && s.end-s.full > times*max(minStates, s.full)
}

// goBack makes r, of which there is a record, what is followed next.
func (s *states) goBack(r stateRecord) {
	s.last, s.off = r.at(), false
	s.era++
}

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

// compact writes the file anew, with some of the newest transactions of g.
func (s *states) compact(g *lineage) error {
	c := s.compaction(g)
	if err := c.write(); err != nil {
		return err
	}
	return c.finish()
}

// compaction is the file being written anew. What is added to it meanwhile is
// taken over in the end.
type compaction struct {
	of   *states
	as   states  // it was, when that began
	g    lineage // its newest lineage
	base stateRecord
	file *spoolFile
	end  int64 // of what was written
}

// compaction begins one. Its write needs no lock.
func (s *states) compaction(g *lineage) *compaction {
	return &compaction{of: s, as: *s, g: lineage{progress: progress{ID: g.ID, Parent: g.Parent}, mark: g.mark}}
}

// write writes as many of the newest transactions as take a quarter of what is
// allowed for.
func (c *compaction) write() error {
	from, err := c.as.chain(&c.g)
	if err != nil {
		return err
	}
	defer from.close()
	if n := len(from.records); n == 0 || from.records[n-1].at() != c.as.last {
		return fmt.Errorf("states: nothing leads to transaction %d of generation %s", c.as.last.txn, c.as.last.generation)
	}
	first, kept := len(from.records)-1, int64(0)
	for first > 0 && kept+from.records[first].length() <= max(minStates, c.as.full)/4 {
		kept += from.records[first].length()
		first--
	}
	sums, err := from.sums(first + 1)
	if err != nil {
		return err
	}
	c.base = from.records[first]
	c.base.full, c.base.sums = true, uint32(sums.Size())
	c.end = c.base.length() + kept
	if c.file, err = c.as.spool.create(); err != nil {
		return err
	}
	if err := c.copy(sums, from.records[first+1:], from.file); err != nil {
		return errors.Join(err, c.file.drop())
	}
	return nil
}

// copy writes the full record and the increments behind it.
func (c *compaction) copy(sums *wal.PageSums, increments []stateRecord, from io.ReaderAt) error {
	w := newStateWriter(bufio.NewWriterSize(c.file, 64<<10), c.base)
	for p := wal.Pgno(1); p <= sums.Size(); p++ {
		w.add(p, sums.At(p))
	}
	if err := w.finish(); err != nil {
		return err
	}
	for _, run := range runs(increments) {
		if _, err := io.Copy(c.file, run.of(from)); err != nil {
			return err
		}
	}
	return nil
}

// finish puts the file in its place, with what was added meanwhile; not when
// something else was done to it. The caller holds what guards the states.
func (c *compaction) finish() error {
	s := c.of
	if s.off || s.era != c.as.era {
		return c.file.drop()
	}
	if err := c.takeOver(run{c.as.end, s.end - c.as.end}); err != nil {
		return errors.Join(err, c.file.drop())
	}
	if err := c.file.keepAs(s.path); err != nil {
		return err
	}
	s.full, s.end = c.base.length(), c.end+s.end-c.as.end
	s.era++
	return nil
}

// takeOver appends what was added.
func (c *compaction) takeOver(added run) error {
	if added.length == 0 {
		return nil
	}
	f, err := os.Open(c.of.path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	n, err := io.Copy(c.file, added.of(f))
	if err == nil && n < added.length {
		err = io.ErrUnexpectedEOF
	}
	return err
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
