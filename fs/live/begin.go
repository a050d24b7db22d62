package live

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/walback/walback/wal"
)

// errNotDatabase says that there is nothing to follow in a file.
var errNotDatabase = errors.New("not a database")

// takeIn follows the database from here on, in the generation that the sink
// knows of if nothing was missed, in a fork of it if something was, or in a new
// one. A file that is no database is left idle, and so is one that a transaction
// has half written: the end of its journal brings it here again. The caller
// holds d.mu.
func (d *database) takeIn() {
	if d.set.isClosed() || d.halfWritten() {
		return
	}
	d.dropImage()
	if d.phase == following {
		d.tell()
		// What cannot be saved any more the sink has forgotten, and says so.
		if err := d.sink.Save(); err != nil {
			d.logger().Warn("not all that was captured could be saved", "error", err)
		}
	}
	f, header, err := d.openFile()
	if errors.Is(err, errNotDatabase) {
		d.phase = idle
		return
	}
	if err == nil {
		err = d.start(f, header)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		d.fail(err)
	}
}

// halfWritten reports whether a journal tells that a transaction is under way
// or has to be rolled back. The database is left idle then. The caller holds d.mu.
func (d *database) halfWritten() bool {
	hot, err := d.journalHot()
	if err != nil {
		d.fail(err)
		return true
	}
	if hot {
		d.dropImage()
		d.phase = idle
	}
	return hot
}

// start begins to follow f, which has the header.
func (d *database) start(f *os.File, header wal.DatabaseHeader) error {
	if err := d.prepare(header); err != nil {
		return err
	}
	size, err := databasePages(f, header)
	if err != nil {
		return err
	}
	past, known := d.sink.Resume()
	if known {
		d.last.Time = max(d.last.Time, past.Mark.Txn.Time)
	}
	if !known || past.Mark.PageSize != d.pageSize || past.Ended && len(past.States) == 0 {
		return d.startImage(f, size)
	}
	if len(past.States) > 0 && d.set.serving() && (d.isLarge(size) || d.passed()) {
		return d.startSurvey(size, past)
	}
	sums, err := fileSums(f, d.pageSize, size)
	if err != nil {
		return err
	}
	return d.goOn(f, size, sums, past)
}

// prepare gets ready for following the file, which has the header.
func (d *database) prepare(header wal.DatabaseHeader) error {
	if d.sink == nil {
		var err error
		if d.sink, err = d.set.open(d.path); err != nil {
			return err
		}
	}
	if err := d.sink.Ready(); err != nil {
		return err
	}
	d.pageSize = header.PageSize
	d.touched, d.rescan, d.newest, d.ending = nil, false, nil, nil
	d.hint.SetPageSize(d.pageSize)
	if d.logGone() {
		d.closeLog() // somebody has taken it away behind the mount's back
	}
	return d.openLog()
}

// openFile opens the backing database file, which is d's from now on, and reads
// its header.
func (d *database) openFile() (*os.File, wal.DatabaseHeader, error) {
	f, err := openRegular(d.file())
	if errors.Is(err, os.ErrNotExist) {
		return nil, wal.DatabaseHeader{}, errNotDatabase
	}
	if err != nil {
		return nil, wal.DatabaseHeader{}, err
	}
	header, err := readHeader(f)
	if err == nil {
		err = d.set.claim(d, f)
	}
	if err != nil {
		f.Close()
		return nil, header, err
	}
	return f, header, nil
}

// isDatabase reports whether the main file can be taken in.
func (d *database) isDatabase() bool {
	f, _, err := d.openFile()
	if err != nil {
		return false
	}
	f.Close() // only read
	return true
}

// readHeader reads the header of a database file; errNotDatabase says that
// it is none.
func readHeader(f io.ReaderAt) (wal.DatabaseHeader, error) {
	var b [wal.DatabaseHeaderSize]byte
	if _, err := f.ReadAt(b[:], 0); errors.Is(err, io.EOF) {
		return wal.DatabaseHeader{}, errNotDatabase
	} else if err != nil {
		return wal.DatabaseHeader{}, err
	}
	header, err := wal.ParseDatabaseHeader(b[:])
	if err != nil {
		return header, errNotDatabase
	}
	return header, nil
}

// A point is a state that the database was in: behind a commit of its log, or
// (the first one) with nothing of the log.
type point struct {
	end   wal.Position
	size  wal.Pgno
	total wal.Checksum
}

func (p point) is(t wal.TxnInfo) bool { return p.size == t.Size && p.total == t.Checksum }

// goOn begins where the database and its past have last been the same. sums
// are those of the file without the log.
//
// That it was the same is proved by the checksum of the whole database: frames
// are in the file only after they were saved, so the file, with the log up to
// the last saved transaction laid over it, has the checksum of that one unless
// somebody else wrote it, or a power failure took the end of it.
func (d *database) goOn(f *os.File, size wal.Pgno, sums *wal.PageSums, past wal.Past) error {
	points, err := d.points(sums.Clone())
	if errors.Is(err, errPageSize) {
		return d.startImage(f, size)
	}
	if err != nil {
		return err
	}
	at, txn, same := common(points, past)
	if !same || txn.ID != past.Mark.Txn.ID {
		ok, err := d.goOnBehind(points, past)
		if ok || err != nil {
			return err
		}
	}
	over := newOverlay(size, d.pageSize)
	if err := d.layOver(over, sums, points[at].end); err != nil {
		return err
	}
	d.tracker = wal.NewTracker(points[at].end)
	if same && !past.Ended && txn.ID == past.Mark.Txn.ID {
		d.follow(sums, past.Mark.Txn)
		d.logger().Info("capture goes on", "transaction", txn.ID)
		d.look()
		return nil
	}
	d.logger().Warn("the database is not as it was captured last; a new generation begins", "last transaction", past.Mark.Txn.ID)
	var base *wal.PageSums
	switch {
	case same:
		base = sums
	case len(past.States) > 0:
		txn = past.States[len(past.States)-1]
		if base, err = past.Sums(txn.ID); err != nil {
			d.logger().Warn("the generation before cannot be forked", "error", err)
		}
	}
	if base != nil {
		forked, err := d.fork(txn, base, sums, over, source{log: d.log, file: f})
		if err != nil {
			return err
		}
		if forked {
			d.look()
			return nil
		}
	}
	return d.startImage(f, size)
}

// goOnBehind goes on in the generation, behind the mark, if the database as of
// the mark, with what the log has behind it laid over it, is the database of now.
// Where the file is written past the daemon it may have frames that were not
// saved; as of the mark it is known by the sums that are kept.
func (d *database) goOnBehind(points []point, past wal.Past) (bool, error) {
	n := len(past.States)
	if past.Ended || n == 0 || past.States[n-1] != past.Mark.Txn {
		return false, nil
	}
	from, ok := continues(points, past.Mark.Log)
	if !ok {
		return false, nil
	}
	sums, err := past.Sums(past.Mark.Txn.ID)
	if err != nil {
		d.logger().Warn("the sums of the last transaction cannot be read", "error", err)
		return false, nil
	}
	expected := sums.Clone()
	if d.log != nil {
		err = wal.NewTracker(from).Look(d.log, func(c wal.Commit) error {
			expected.Apply(c)
			return nil
		})
	}
	if err != nil || expected.Size() != points[len(points)-1].size || expected.Total() != points[len(points)-1].total {
		return false, err
	}
	d.tracker = wal.NewTracker(from)
	d.follow(sums, past.Mark.Txn)
	d.logger().Info("capture goes on", "transaction", past.Mark.Txn.ID)
	d.look()
	return true, nil
}

// continues returns where what follows a mark begins in the log: behind the mark,
// or at the beginning of the epoch after it. It returns false when the log is
// another one. What such a log leads to may be the database of now whatever was
// there before (it may have all pages), but not the states on the way.
func continues(points []point, mark wal.Position) (wal.Position, bool) {
	if mark.IsZero() {
		return mark, false
	}
	for _, p := range points[1:] {
		switch {
		case p.end == mark:
			return p.end, true
		case p.end.Salt1 == mark.Salt1+1:
			return points[0].end, true
		}
	}
	return mark, false
}

// isLarge reports whether a database of size pages is too large to be read while
// applications wait.
func (d *database) isLarge(size wal.Pgno) bool {
	return int64(size)*int64(d.pageSize) > d.set.inGate
}

// passed reports whether the application writes past the daemon.
func (d *database) passed() bool { return d.logs.Load() > 0 || d.mains.Load() > 0 }

// points returns the states that the log leads through. It lays the whole log
// over sums.
func (d *database) points(sums *wal.PageSums) ([]point, error) {
	points := []point{{size: sums.Size(), total: sums.Total()}}
	if d.log == nil {
		return points, nil
	}
	err := wal.NewTracker(wal.Position{}).Look(d.log, func(c wal.Commit) error {
		if c.PageSize != d.pageSize {
			return errPageSize
		}
		sums.Apply(c)
		points = append(points, point{c.End, sums.Size(), sums.Total()})
		return nil
	})
	return points, err
}

// common returns the last point that is a transaction of the past, and which
// one: that of the mark if it is there. Otherwise it is the last point, and false.
func common(points []point, past wal.Past) (int, wal.TxnInfo, bool) {
	mark, found := past.Mark.Txn, -1
	for i, p := range points {
		if !p.is(mark) {
			continue
		}
		found = i
		if p.end == past.Mark.Log {
			break // and not another one later that happens to have the same content
		}
	}
	if found >= 0 && (!past.Ended || past.States[len(past.States)-1].ID == mark.ID) {
		return found, mark, true
	}
	for i := len(past.States) - 1; i >= 0; i-- {
		for j := len(points) - 1; j >= 0; j-- {
			if points[j].is(past.States[i]) {
				return j, past.States[i], true
			}
		}
	}
	return len(points) - 1, wal.TxnInfo{}, false
}

// layOver lays the log up to a position over the sums of the file.
func (d *database) layOver(over *overlay, sums *wal.PageSums, to wal.Position) error {
	if to.IsZero() {
		return nil
	}
	// The position may be the end of a commit, or behind the padding that follows
	// it: there only the tracker gets.
	tracker := wal.NewTracker(wal.Position{})
	err := tracker.Look(d.log, func(c wal.Commit) error {
		if tracker.Position() == to {
			return errReached
		}
		over.commit(c)
		sums.Apply(c)
		if c.End == to {
			return errReached
		}
		return nil
	})
	if errors.Is(err, errReached) {
		return nil
	}
	if err == nil && tracker.Position() != to {
		err = fmt.Errorf("the log changed while it was read: %w", wal.ErrMissed)
	}
	return err
}

// errReached ends a look at a position.
var errReached = errors.New("reached")

// follow begins with every commit behind txn, in the state that sums are of.
func (d *database) follow(sums *wal.PageSums, txn wal.TxnInfo) {
	d.sums, d.last = sums, txn
	d.epochs = nil // the next look begins
	d.phase, d.err, d.backoff = following, nil, 0
	d.verified = verified{txn.ID, time.Now()} // the file has been read
	d.set.mu.Lock()
	defer d.set.mu.Unlock()
	d.set.lull(d)
}

// maxFork is how many bytes of pages a fork begins with at most: the
// application waits until they are saved.
const maxFork = 256 << 20

// fork begins a generation that goes on from a transaction of the one before,
// whose database has the sums base. Its first transaction has what differs: the
// database now has the sums, and its pages are in the overlay and src. It
// returns false when a whole image is to be taken instead, and an error when
// that could not be kept either.
func (d *database) fork(from wal.TxnInfo, base, sums *wal.PageSums, over *overlay, src source) (bool, error) {
	most := min(maxFork, max(int64(sums.Size())*int64(d.pageSize)/2, int64(d.pageSize))) / int64(d.pageSize)
	var frames []wal.Frame
	for p := range sums.Differ(base) {
		if int64(len(frames)) == most {
			return false, nil
		}
		frames = append(frames, over.frame(p, sums.At(p)))
	}
	first := &wal.Txn{
		TxnInfo: wal.TxnInfo{
			ID: from.ID + 1, Time: d.now(), Size: sums.Size(), Pages: wal.Pgno(len(frames)), Checksum: sums.Total(),
		},
		PageSize: d.pageSize,
		Frames:   frames,
		Source:   src,
		End:      d.tracker.Position(),
	}
	if err := d.sink.Fork(from.ID, first); err != nil {
		if err := d.sink.Ready(); err != nil {
			return false, err
		}
		d.logger().Warn("the generation before cannot be forked", "error", err)
		return false, nil
	}
	d.follow(sums, first.TxnInfo)
	d.logger().Info("a new generation goes on from the one before", "behind transaction", from.ID, "pages that differ", len(frames), "checksum", first.Checksum)
	return true, nil
}
