package live

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// clock is the wall clock, from which transactions have their times, watched
// against one that nobody can set. A step is told of once, by the first
// transaction behind it; nothing happens while there are none.
//
// The clock is believed whatever it says. What keeps the times of a database
// increasing is database.now.
type clock struct {
	wall   func() time.Time
	steady func() time.Duration // since whenever
	logger *slog.Logger

	mu  sync.Mutex
	off wal.Time // of wall from steady, as far as it has been told
}

// stepped is by how much the wall clock must have departed to count as set: more
// than a leap second.
const stepped = wal.Time(time.Second / time.Microsecond)

func newClock(wall func() time.Time, steady func() time.Duration, logger *slog.Logger) *clock {
	c := &clock{wall: wall, steady: steady, logger: logger}
	before := c.ticks()
	c.off = wal.TimeOf(wall()) - before
	return c
}

// sinceBoot is a steady clock, which goes on while the machine sleeps. Where the
// wall clock is slewed, so is this one.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("live: CLOCK_BOOTTIME: " + err.Error()) // every Linux that has FUSE has it
	}
	return time.Duration(t.Nano())
}

func (c *clock) ticks() wal.Time { return wal.Time(c.steady().Microseconds()) }

// now returns what the wall clock shows.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.ticks()
	wall := c.wall()
	switch off := wal.TimeOf(wall) - before; {
	case off < c.off-stepped:
		c.logger.Warn("the clock was set back: a database that has later transactions gives the next ones times a microsecond apart until the clock has caught up",
			"from", before+c.off, "to", wal.TimeOf(wall))
		c.off = off
	case off > c.off+stepped && c.standsAhead(wall):
		c.logger.Warn("the clock was set forward: transactions have its new time from here on",
			"from", before+c.off, "to", wal.TimeOf(wall))
		c.off = off
	}
	return wall
}

// standsAhead reports whether wall, which was read just now, is ahead of what was
// to be expected even if this process was stopped before it was read.
func (c *clock) standsAhead(wall time.Time) bool {
	return wal.TimeOf(wall)-c.ticks() > c.off+stepped
}
