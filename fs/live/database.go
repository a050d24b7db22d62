package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walback/walback/wal"
)

// phase is what the capture of a database is doing.
type phase int

const (
	// idle: the file is no database, or not any more.
	idle phase = iota
	// reading: the base image is being read; commits only mark pages dirty.
	reading
	// following: every commit becomes a transaction.
	following
	// broken: capture failed; it begins again with a new generation at retry.
	broken
	// resting: nobody uses it; rested says how it was left, see rest.go.
	resting
)

func (p phase) String() string {
	return [...]string{"idle", "reading", "following", "broken", "resting"}[p]
}

// database follows one database of the mount: it reads its log, gives every
// commit its index, time and checksum, and hands it to the sink.
type database struct {
	path string // of the main file, below the root
	set  *set

	// set.mu guards what follows.
	handles int // the application's, of the file and what is beside it
	// How many of them are past the daemon: of the log, its index, the file; and
	// how many there are of a log beside another name of the file.
	logs, indexes, mains, foreign atomic.Int32
	id                            fileID              // of the main file, once claimed
	others                        map[string]struct{} // hard links to it that have been seen
	left                          stamps              // when nobody had the main file open any more; zero: not known

	// mu guards what follows. A gate holds it while the operation it guards is
	// carried out, so that nobody looks at a log that is half changed.
	mu       sync.Mutex
	phase    phase
	sink     Sink
	pageSize int
	sums     *wal.PageSums
	last     wal.TxnInfo
	imaged   wal.TXID // the last one that is only how the database was found
	tracker  *wal.Tracker
	log      *os.File   // the backing -wal while it exists
	index    *os.File   // the backing -shm while its log is looked at all the time
	found    []*wal.Txn // that the sink has not been told of
	epochs   *epochs    // nil unless the log is written past the daemon
	hint     wal.WriteHint
	unlooked bool // the log was written to after the last look
	// unindexed: the wal-index is not that of who writes, see lookUnindexed.
	unindexed bool
	armed     bool // a look is due by timer
	// fruitless counts the looks by timer since one was told of a commit, and took
	// is how long the last of them took: a long transaction that is being spilled is
	// not read over and over.
	fruitless int
	took      time.Duration
	image     *imaging
	touched   map[wal.Pgno]struct{} // pages written without a log since the last commit
	rescan    bool                  // any page may have been written without a log
	quieting  bool                  // a quiet point is awaited
	touchedAt time.Time             // when the main file was last written to without a log
	newest    *undo                 // of the last commit of the log, nil when there is none to undo
	ending    []wal.Pgno            // pages of the log while it is being cut
	synced    synced                // the last commit that was seen to be synced
	verified  verified
	rested    *rest // how it was left last
	shipping  Sink  // what takes commits no more, while resting; nil if it never did
	err       error // why the phase is broken
	retry     time.Time
	backoff   time.Duration
}

func (d *database) file() string { return d.set.backing(d.path) }

func (d *database) logFile() string { return d.file() + logSuffix }

func (d *database) logger() *slog.Logger { return d.set.logger.With("database", d.path) }

// look reads the log and passes every new commit on. The caller holds d.mu.
func (d *database) look() {
	d.unlooked = false
	switch d.phase {
	case idle, resting:
		return
	case broken:
		d.again()
		return
	}
	if err := d.openLog(); err != nil {
		d.fail(err)
		return
	}
	var err error
	if d.log != nil {
		err = d.lookAt(d.log)
	}
	d.tell()
	if errors.Is(err, wal.ErrMissed) || errors.Is(err, errPageSize) || errors.Is(err, errUncopied) {
		d.logger().Warn("the log cannot be continued", "reason", err)
		d.takeIn()
		return
	}
	if err == nil && d.phase == following {
		err = d.sink.Err()
	}
	if err != nil {
		d.fail(err)
	}
}

var errPageSize = errors.New("the page size of the database changed")

// commit takes over one commit found in the log. The caller holds d.mu.
func (d *database) commit(c wal.Commit) error {
	if c.PageSize != d.pageSize {
		return errPageSize
	}
	if d.phase == reading {
		d.image.commit(c)
		return nil
	}
	d.newest = d.undoOf(c)
	d.sums.Apply(c)
	if d.epochs != nil {
		d.epochs.commit(c)
	}
	d.append(&wal.Txn{
		TxnInfo: wal.TxnInfo{Time: d.synced.timeOf(c.End), Size: c.Size, Pages: wal.Pgno(len(c.Frames)), Checksum: d.sums.Total()},
		Frames:  c.Frames,
		Source:  d.log,
		End:     c.End,
	})
	return nil
}

// append gives txn its index, and its time unless it has one. The sink is told
// of it soon, before anything is saved.
func (d *database) append(txn *wal.Txn) {
	txn.ID = d.last.ID + 1
	if txn.Time == 0 {
		txn.Time = d.now()
	}
	txn.Time = max(txn.Time, d.last.Time+1)
	txn.PageSize = d.pageSize
	d.found = append(d.found, txn)
	d.last = txn.TxnInfo
}

// tell hands what was found to the sink.
func (d *database) tell() {
	if len(d.found) == 0 {
		return
	}
	d.sink.Append(d.found...)
	d.last = d.found[len(d.found)-1].TxnInfo // it may have had a time already
	d.found = nil
}

// now returns the time of the next transaction: times increase strictly along
// a lineage even when the clock does not.
func (d *database) now() wal.Time {
	return max(wal.TimeOf(d.set.now()), d.last.Time+1)
}

// save copies to local disk what only the log holds. The caller holds d.mu.
func (d *database) save() {
	if d.phase != following {
		return
	}
	d.tell()
	if err := d.sink.Save(); err != nil {
		d.fail(err)
	}
}

// openLog opens the backing log if there is one and it is not open yet.
func (d *database) openLog() error {
	if d.log != nil {
		return nil
	}
	f, err := os.Open(d.logFile())
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	d.log = f
	return nil
}

// closeLog closes the backing log. Transactions that still lie in it must have
// been saved.
func (d *database) closeLog() {
	if d.log != nil {
		if err := d.log.Close(); err != nil {
			d.logger().Warn("closing the log", "error", err)
		}
		d.log = nil
	}
}

// Bounds of the time after which a broken capture is begun again.
const (
	minBackoff = time.Second
	maxBackoff = time.Minute
)

// fail ends the capture of the generation. The application is not disturbed;
// capture begins again, with a new generation, at a look after the backoff.
func (d *database) fail(err error) {
	d.dropImage()
	level := slog.LevelError
	if d.phase == broken && d.err.Error() == err.Error() {
		level = slog.LevelDebug // it has been said
	}
	d.backoff = min(max(2*d.backoff, minBackoff), maxBackoff)
	d.retry = time.Now().Add(d.backoff)
	d.phase, d.err = broken, err
	d.logger().Log(context.Background(), level, "capture stopped; what is committed from here on is not recorded until a new generation begins",
		"error", err, "retry", d.backoff)
	time.AfterFunc(d.backoff, d.retryNow)
}

func (d *database) retryNow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase == broken {
		d.again()
	}
}

// again begins a new generation once the backoff is over.
func (d *database) again() {
	if time.Now().Before(d.retry) || d.set.isClosed() {
		return
	}
	d.takeIn()
}

// suspect is called when somebody may have written the file behind the mount's
// back: what differs from what was captured begins a new generation. The caller
// holds d.mu.
func (d *database) suspect() {
	if d.phase != broken {
		d.takeIn()
	}
}

// lookSoon makes sure that the log is looked at even if no commit was
// recognised in what was written. The caller holds d.mu.
func (d *database) lookSoon() {
	if d.armed {
		return
	}
	d.armed = true
	delay := min(lookDelay<<min(d.fruitless, 10), maxLookDelay)
	if d.fruitless > 0 {
		delay = max(delay, lookShare*d.took)
	}
	time.AfterFunc(delay, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.armed = false
		if d.unlooked {
			d.fruitless++
			began := time.Now()
			d.look()
			d.took = time.Since(began)
		}
	})
}

// How long a commit that no hint told of may go unseen: after the first look
// that found nothing, twice as long each time.
const (
	lookDelay    = 5 * time.Millisecond
	maxLookDelay = time.Second
	// lookShare is how much longer than the last one took it is until the next.
	lookShare = 30
)

// close saves what is captured and lets go of the files. Shipping goes on.
func (d *database) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch d.phase {
	case resting:
		return nil
	case following:
		d.look()
		d.save()
	}
	return d.letGo()
}

// letGo lets go of the files as they are. The caller holds d.mu, and has looked
// and saved.
func (d *database) letGo() error {
	var err error
	if d.phase == reading {
		err = errUnread
	}
	d.dropImage()
	d.phase, d.epochs = idle, nil
	d.closeLog()
	d.closeIndex()
	if d.sink != nil {
		err = errors.Join(err, d.sink.Close())
		d.sink = nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.path, err)
	}
	return nil
}

// errUnread says that there will be no past of what was committed last.
var errUnread = errors.New("its base image was still being read, so nothing committed since is recorded; the next mount reads it again")
