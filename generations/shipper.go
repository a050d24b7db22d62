package generations

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/walback/walback/wal"
)

// ShipperOptions are settings of a Shipper. The zero value works.
type ShipperOptions struct {
	Interval time.Duration // between the segments of one database in the long run, see Pace; default 1 s
	Uploads  int           // objects put at the same time; default 8
	Logger   *slog.Logger  // default: nothing is logged

	// OnlyFlush keeps segments back until Flush is called: for those whose commits
	// are of another time than the clock's, and who keep a Pace themselves.
	OnlyFlush bool

	// SpoolLimit is how many bytes may wait in the spool, of all databases
	// together, except for the images that their newest generations begin with, and
	// for one transaction that is larger.
	// By default a tenth of the filesystem, at least 64 MiB and at most 16 GiB.
	SpoolLimit int64

	// Merge says how what has been shipped is merged into fewer segments.
	Merge MergeOptions

	// Packs opens stored and local objects. Without it, no maps are made.
	Packs Opener

	// OnShipped is told of every object that has got into the store.
	OnShipped func(client string, o Object)

	// OnBroken is told when shipping, in the background, has found that a
	// generation cannot be continued: err is what Writer.Err returns. The
	// database's capture should then call Begin, from wherever it likes.
	OnBroken func(client string, err error)

	// OnRoom is told of each database whose capture ended because the spool was
	// full, when enough of it has been shipped. (When the disk was full, nobody
	// tells: try Writer.Ready now and then.)
	OnRoom func(client string)
}

// Shipper carries what Writers save to the store. It never gives up: while the
// store fails, everything stays in the spool, and it tries again.
type Shipper struct {
	store    Store
	spool    *Spool
	options  ShipperOptions
	room     *room
	schedule schedule
	maps     *mapping
	merging  *merging
	cancel   context.CancelFunc
	work     sync.WaitGroup // the schedule's goroutine, and what runs in the background

	mu      sync.Mutex
	writers map[string]*Writer // by client; those with something to ship, or open
	closed  bool
}

// NewShipper starts shipping what is in the spool, also of databases that
// nobody opens any more.
func NewShipper(s Store, sp *Spool, o ShipperOptions) *Shipper {
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.Uploads <= 0 {
		o.Uploads = 8
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	sh := &Shipper{store: s, spool: sp, options: o, cancel: cancel, writers: make(map[string]*Writer)}
	sh.room = newRoom(sp, o.SpoolLimit, o.Logger)
	sh.maps = newMapping(ctx)
	sh.merging = newMerging(ctx, sh, o.Merge)
	sh.schedule = schedule{
		limit: o.Uploads,
		take:  sh.takeTurn,
		next:  (*Writer).due,
		wake:  make(chan struct{}, 1),
	}
	sh.takeUp()
	sh.work.Go(func() { sh.schedule.run(ctx) })
	return sh
}

// takeUp loads the databases that have something in the spool.
func (s *Shipper) takeUp() {
	clients, err := s.spool.Clients()
	if err != nil {
		s.options.Logger.Error("what an earlier run left in the spool is not shipped", "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range clients {
		w, err := s.load(c)
		if err != nil {
			s.options.Logger.Error("what an earlier run left in the spool is not shipped", "client", c, "error", err)
			continue
		}
		s.schedule.notify(w)
	}
}

// load returns the Writer of client. The caller holds mu.
func (s *Shipper) load(client string) (*Writer, error) {
	if w := s.writers[client]; w != nil {
		return w, nil
	}
	w := &Writer{client: client, shipper: s}
	if err := w.load(); err != nil {
		return nil, err
	}
	s.writers[client] = w
	return w, nil
}

// Database returns the Writer of a database that is to be captured. A client
// has one Writer open at a time.
func (s *Shipper) Database(client, file string) (*Writer, error) {
	if err := CheckClient(client); err != nil {
		return nil, err
	}
	if file == "" || fileOf(file) != file {
		return nil, fmt.Errorf("client %s: %q is not a file name", client, file)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("generations: the shipper is closed")
	}
	w, err := s.load(client)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open {
		return nil, fmt.Errorf("client %s is being captured already, as %s", client, PathOf(client, w.file))
	}
	w.open, w.file = true, file
	return w, nil
}

// Flush returns when everything appended is in the store. Otherwise it returns
// the context's error, or what keeps it from getting there, and what is left;
// that stays in the spool.
func (s *Shipper) Flush(ctx context.Context) error {
	done := s.schedule.expedite()
	defer done()
	for {
		turned := s.schedule.afterTurn()
		if !s.hasWork() {
			break
		}
		select {
		case <-turned:
		case <-ctx.Done():
			return fmt.Errorf("not in the store yet, kept in %s: %s: %w", s.spool.dir, s.left(), ctx.Err())
		}
	}
	if left := s.left(); left != "" {
		return fmt.Errorf("not in the store, kept in %s: %s", s.spool.dir, left)
	}
	return nil
}

// hasWork reports whether there is something that can get into the store. Of many
// databases few are asked as long as there is.
func (s *Shipper) hasWork() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writers {
		if w.hasWork() {
			return true
		}
	}
	return false
}

// left says per database what is not in the store.
func (s *Shipper) left() string {
	var left []string
	for _, w := range s.all() {
		txns, stuck := w.unshipped()
		err, works := w.failure(), w.hasWork()
		if txns == 0 && !works {
			continue
		}
		if !works {
			err = stuck
		}
		text := fmt.Sprintf("%s: %d transactions", w.client, txns)
		if err != nil {
			text += ": " + err.Error()
		}
		left = append(left, text)
	}
	return strings.Join(left, "; ")
}

// all returns the Writers in the order of their clients.
func (s *Shipper) all() []*Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Writer, 0, len(s.writers))
	for _, w := range s.writers {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b *Writer) int { return strings.Compare(a.client, b.client) })
	return all
}

// background does what nobody waits for but Close; false when that has come.
func (s *Shipper) background(do func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.work.Go(do)
	}
	return !s.closed
}

// Close stops shipping at once; Flush first to ship what there is. What is not
// in the store stays in the spool, which is not closed.
func (s *Shipper) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
	s.merging.jobs.wait()
	s.merging.removals.wait()
	s.maps.jobs.wait()
	return nil
}

// Merged returns when nothing that has been shipped is left to merge or to map.
// What has become part of other segments may still be in the store.
func (s *Shipper) Merged(ctx context.Context) error {
	return errors.Join(s.merging.jobs.settled(ctx), s.maps.jobs.settled(ctx))
}

// DatabaseStatus is how far one database has come.
type DatabaseStatus struct {
	Client     string        `json:"client"`
	File       string        `json:"file"`
	Generation ID            `json:"generation"` // zero: none yet
	Committed  wal.TxnInfo   `json:"committed"`  // last one appended
	Shipped    wal.TxnInfo   `json:"shipped"`    // last one in the store, zero: none yet
	Queued     int           `json:"queued_transactions"`
	Bytes      int64         `json:"queued_bytes"` // what is not in the store takes locally, in the log or the spool
	Lag        time.Duration `json:"lag_ns"`       // since the oldest commit that is not in the store; 0: none
	Err        error         `json:"-"`            // of the last attempt; nil: it succeeded
	Error      string        `json:"error,omitempty"`
}

// Status tells how far every database has come, in the order of clients.
func (s *Shipper) Status() []DatabaseStatus {
	now := wal.TimeOf(time.Now())
	all := s.all()
	status := make([]DatabaseStatus, len(all))
	for i, w := range all {
		status[i] = w.status(now)
	}
	return status
}

// hasPut tells whoever wants to know that o has got into the store.
func (s *Shipper) hasPut(o PlanObject) {
	s.spool.feeds.put(o)
	if s.options.OnShipped != nil {
		s.options.OnShipped(o.Client, o.Object)
	}
}
