package live

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walback/walback/wal"
)

// settable is a wall clock that can be set, and a steady one beside it.
type settable struct {
	ticks atomic.Int64 // nanoseconds of the steady clock
	ahead atomic.Int64 // of the wall clock
}

var someDay = time.Date(2024, 1, 14, 15, 45, 0, 0, time.UTC)

func (s *settable) wall() time.Time {
	return someDay.Add(time.Duration(s.ticks.Load() + s.ahead.Load()))
}
func (s *settable) steady() time.Duration { return time.Duration(s.ticks.Load()) }

// pass lets time pass, and set sets the wall clock by so much.
func (s *settable) pass(d time.Duration) { s.ticks.Add(int64(d)) }
func (s *settable) set(by time.Duration) { s.ahead.Add(int64(by)) }

func TestClockTellsOfSteps(t *testing.T) {
	var said bytes.Buffer
	s := &settable{}
	c := newClock(s.wall, s.steady, slog.New(slog.NewTextHandler(&said, nil)))
	for _, step := range []struct {
		pass, set time.Duration
		want      []string // in the line, none: nothing is said
	}{
		{pass: time.Hour},
		{pass: time.Minute, set: -time.Second}, // a leap second
		{set: time.Second},
		{pass: time.Second, set: -time.Hour, want: []string{"set back", "from=2024-01-14T16:46:01.000000Z", "to=2024-01-14T15:46:01.000000Z"}},
		{},
		{pass: 5 * time.Second},
		{set: 20 * time.Minute, want: []string{"set forward", "from=2024-01-14T15:46:06.000000Z", "to=2024-01-14T16:06:06.000000Z"}},
		{pass: time.Hour},
		// Bit by bit is a step too, in the end.
		{set: -400 * time.Millisecond},
		{set: -400 * time.Millisecond},
		{set: -400 * time.Millisecond, want: []string{"set back"}},
	} {
		s.pass(step.pass)
		s.set(step.set)
		if got := c.now(); !got.Equal(s.wall()) {
			t.Errorf("%+v: now is %s, and the clock shows %s", step, got, s.wall())
		}
		for _, want := range step.want {
			if !strings.Contains(said.String(), want) {
				t.Errorf("%+v: said %q, want %q", step, said.String(), want)
			}
		}
		if lines := bytes.Count(said.Bytes(), []byte("\n")); lines != min(1, len(step.want)) {
			t.Errorf("%+v: said %q", step, said.String())
		}
		said.Reset()
	}
}

// A process that is stopped between reading the two clocks has not seen a step.
func TestClockOfAStoppedProcess(t *testing.T) {
	var said bytes.Buffer
	s := &settable{}
	stopped := func() time.Time {
		s.pass(time.Minute)
		return s.wall()
	}
	c := newClock(s.wall, s.steady, slog.New(slog.NewTextHandler(&said, nil)))
	c.wall = stopped
	c.now()
	c.now()
	if said.Len() > 0 {
		t.Errorf("said %q", said.String())
	}
}

func TestSinceBoot(t *testing.T) {
	before := sinceBoot()
	began := time.Now()
	c := newClock(time.Now, sinceBoot, slog.New(slog.DiscardHandler))
	if now := c.now(); now.Before(began) {
		t.Errorf("now is %s, before %s", now, began)
	}
	if after := sinceBoot(); after <= 0 || after < before {
		t.Errorf("%s since boot, and before that %s", after, before)
	}
}

// TestTimesIncreaseWhateverTheClockDoes sets the clock back and forth while an
// application commits.
func TestTimesIncreaseWhateverTheClockDoes(t *testing.T) {
	w := newWorld(t, inGate)
	w.passed = false // a time is taken within each commit
	s := &settable{}
	w.mountAt(newClock(s.wall, s.steady, slog.New(slog.NewTextHandler(t.Output(), nil))).now)
	db := w.open("db.sqlite", "_journal_mode=WAL")
	db.exec("CREATE TABLE t(a)")
	for i, by := range []time.Duration{0, time.Hour, -2 * time.Hour, 24 * 365 * 15 * time.Hour, -24 * 365 * 15 * time.Hour, 0} {
		s.set(by)
		for range 5 {
			s.pass(time.Millisecond)
			db.exec(fmt.Sprintf("INSERT INTO t VALUES(%d)", i))
		}
	}
	w.captured("db.sqlite", db)

	var times []wal.Time
	for _, state := range w.sink("db.sqlite").inOrder() {
		times = append(times, state.Time)
	}
	if len(times) < 31 {
		t.Fatalf("%d transactions", len(times))
	}
	ends := times[len(times)-30:] // five after each setting
	for i := range ends {
		if i > 0 && ends[i] <= ends[i-1] {
			t.Errorf("transaction %d of %s behind one of %s", i, ends[i], ends[i-1])
		}
		// Set back, the times crawl; otherwise they are the clock's.
		if crawl := i >= 10 && i < 15 || i >= 20; crawl && ends[i] != ends[i-1]+1 {
			t.Errorf("transaction %d of %s behind one of %s, want a microsecond later", i, ends[i], ends[i-1])
		} else if !crawl && i%5 > 0 && ends[i] != ends[i-1]+1000 {
			t.Errorf("transaction %d of %s behind one of %s, want a millisecond later", i, ends[i], ends[i-1])
		}
	}
}

// inOrder returns the states of the newest generation.
func (r *recorder) inOrder() []state {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []state
	for _, s := range r.current().states {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b state) int { return int(a.ID) - int(b.ID) })
	return all
}
