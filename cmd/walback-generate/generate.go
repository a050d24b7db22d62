package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// options say what to make.
type options struct {
	dir          string
	url          generations.URL
	size         int64 // bytes
	transactions int
	span         time.Duration
	interval     time.Duration // between segments in the long run
	until        time.Time
	seed         uint64
	progress     io.Writer
}

// database is the file name, and the client, of what is made.
const database = "app.db"

// summary is what was made.
type summary struct {
	Client       string
	Asked        int64 // bytes of the database that were asked for
	PageSize     int
	Pages        int // of the database, in the end
	Accounts     int // rows of the table, with ids from 1 on
	Transactions int // the last one's index: the image is 1
	Interval     time.Duration
	First, Last  wal.Time // when the history begins and ends

	Compressed        int64 // bytes of the database in the end, as one pack
	Changes           int64 // bytes of all pages that transactions wrote
	CompressedChanges int64 // the same, as packs of many transactions

	// What was asked of the store meanwhile.
	Puts, Gets, Lists, Deletes int64
	Written, Read              int64 // bytes

	Seconds float64
	Memory  int64 // bytes that the process had at most
}

// checkpointed is after how many pages in the log SQLite is asked to copy them
// to the database: as many as it takes itself by default.
const checkpointed = 1000

// generate makes what o says.
func generate(ctx context.Context, o options) (s summary, err error) {
	began := time.Now()
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return s, err
	}
	r := rand.New(rand.NewPCG(o.seed, 0))
	work, err := newWorkload(filepath.Join(o.dir, database), o.size, r)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, work.close()) }()
	o.say("a database of %d accounts", work.accounts)
	ship, err := newShipping(ctx, o.dir, o.url, o.size)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, ship.close()) }()

	from := wal.TimeOf(o.until.Add(-o.span))
	times := spread(r, o.transactions, from, wal.TimeOf(o.until))
	c, err := beginCapture(work.path, ship.writer, from)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := ship.flush(ctx); err != nil {
		return s, err
	}
	o.say("its image is stored")
	if err := o.live(ctx, work, c, ship, times); err != nil {
		return s, err
	}
	if err := work.exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return s, err
	}
	if s.Compressed, err = c.compressed(); err != nil {
		return s, err
	}
	if s.CompressedChanges, err = c.changes.finish(); err != nil {
		return s, err
	}
	if err := ship.settle(ctx); err != nil {
		return s, err
	}
	s.Client, s.PageSize, s.Pages, s.Accounts = database, c.sums.PageSize(), int(c.last.Size), work.accounts
	s.Transactions, s.First, s.Last = int(c.last.ID), from, c.last.Time
	s.Asked, s.Changes, s.Interval = o.size, c.changes.raw, o.interval
	ship.store.tell(&s)
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return s, err
	}
	s.Memory = used.Maxrss << 10
	s.Seconds = time.Since(began).Seconds()
	return s, nil
}

// live commits a transaction at each of times, and ships them as a mount would
// have at the time. While the transactions of one round are shipped, SQLite makes
// those of the next.
func (o options) live(ctx context.Context, work *workload, c *capture, ship *shipping, times []wal.Time) error {
	var turns [2]*round // whoever takes one has done with the one before
	for i := range turns {
		r, err := newRound()
		if err != nil {
			return err
		}
		defer r.close() // nothing of it is kept
		turns[i] = r
	}
	rounds := make(chan *round)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(rounds)
		return o.commit(ctx, work, c, times, turns, rounds)
	})
	g.Go(func() error {
		for r := range rounds {
			for _, txns := range r.segments {
				ship.writer.Append(txns...)
				if err := ship.flush(ctx); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return g.Wait()
}

// commit has SQLite commit a transaction at each of times, and hands them on in
// rounds.
func (o options) commit(ctx context.Context, work *workload, c *capture, times []wal.Time, turns [2]*round, rounds chan<- *round) error {
	var pace generations.Pace
	said := 0
	for done, n := 0, 0; done < len(times); n++ {
		r := turns[n%len(turns)]
		r.clear()
		for r.pages < checkpointed && done < len(times) {
			some, begin := together(times[done:], pace, o.interval)
			pace.Begin(begin.Std(), o.interval)
			for range some {
				if err := work.transact(times[done].Std()); err != nil {
					return err
				}
				done++
			}
			if err := c.look(times[done-some:done], r); err != nil {
				return err
			}
		}
		if err := work.exec("PRAGMA wal_checkpoint(PASSIVE)"); err != nil {
			return err
		}
		select {
		case rounds <- r:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if done*10/len(times) > said {
			said = done * 10 / len(times)
			o.say("%d transactions, up to %s", done, times[done-1])
		}
	}
	return nil
}

// together returns how many of the first of times go into the next segment, and
// when that begins: it has what has been committed when the pace allows it.
func together(times []wal.Time, pace generations.Pace, interval time.Duration) (n int, begin wal.Time) {
	begin = max(times[0], wal.TimeOf(pace.Next(interval)))
	for n < len(times) && times[n] <= begin {
		n++
	}
	return n, begin
}

func (o options) say(format string, args ...any) {
	fmt.Fprintf(o.progress, format+"\n", args...)
}
