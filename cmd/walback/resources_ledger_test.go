package main

import (
	"crypto/sha256"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/walback/walback/wal"
)

// ledger is an application with one connection to one database, which remembers
// what it has committed and how long that took.
type ledger struct {
	looks string // see world.looks
	*chronicle
	conn    *sqlite3.SQLiteConn
	longest time.Duration
	blind   bool // does not look at the content
	// gap has the first commit that may be missing in the past, and the first behind
	// it that may not.
	gap [2]int
}

// openLedger connects to the database at path, whose table it makes if need be.
// Like an application it fails when something fails.
func openLedger(w *world, path string, setup ...string) (*ledger, error) {
	c, err := (&sqlite3.SQLiteDriver{}).Open(filepath.Join(w.dir, path))
	if err != nil {
		return nil, err
	}
	l := &ledger{chronicle: newChronicle(path), conn: c.(*sqlite3.SQLiteConn)}
	if served(w.dir) {
		l.looks = w.looks()
	}
	setup = append([]string{"PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL"}, setup...)
	for _, q := range append(setup, "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v BLOB)") {
		if _, err := l.conn.Exec(q, nil); err != nil {
			l.conn.Close() // the first error is the one to tell
			return nil, err
		}
	}
	err = awaitLook(l.looks) // at what was committed in front
	if err == nil {
		err = l.commit("PRAGMA user_version=1")
	}
	if err != nil {
		l.conn.Close()
		return nil, err
	}
	return l, nil
}

// commit executes what commits, and takes note of it.
func (l *ledger) commit(q string) error {
	begun := time.Now()
	if _, err := l.conn.Exec(q, nil); err != nil {
		return err
	}
	took := time.Since(begun)
	if err := awaitLook(l.looks); err != nil {
		return err
	}
	ended := time.Now()
	l.longest = max(l.longest, took)
	if l.blind {
		l.moments = append(l.moments, moment{begun: wal.TimeOf(begun), ended: wal.TimeOf(ended)})
		return nil
	}
	content, err := l.conn.Serialize("main")
	if err != nil {
		return err
	}
	l.moments = append(l.moments, moment{wal.TimeOf(begun), wal.TimeOf(ended), sha256.Sum256(writable(content))})
	return nil
}

// must commits n rows.
func (l *ledger) must(t *testing.T, n int) {
	t.Helper()
	for range n {
		if err := l.commit("INSERT INTO t(v) VALUES(randomblob(300))"); err != nil {
			t.Fatalf("%s: %v", l.path, err)
		}
	}
}

func (l *ledger) close(t *testing.T) {
	t.Helper()
	if err := l.conn.Close(); err != nil {
		t.Errorf("%s: %v", l.path, err)
	}
}

// checkBesidesGap makes sure that the past has every commit but those of the
// gap, and those at the time at which they were made if it has them.
func (l *ledger) checkBesidesGap(w *world, past string) {
	w.t.Helper()
	r := record{w, l.chronicle, w.log(l.client)}
	r.each(func(i int, m moment) {
		if i >= l.gap[0] && i < l.gap[1] {
			return
		}
		n := 0
		for _, row := range r.rows {
			if at := wal.Time(row.Time); at >= m.begun && at <= m.ended {
				n++
			}
		}
		if i == l.gap[1] && n > 1 {
			n = 1 // and the state with which capture has begun again
		}
		if n != 1 {
			w.t.Errorf("%s: commit %d is %d transactions", l.path, i, n)
		}
		if m.content != (digest{}) {
			r.check(past, m.ended.String(), m.content)
		}
	})
	r.check(past, "latest", l.moments[len(l.moments)-1].content)
}

// await returns when the live mount's status is as wanted.
func (w *world) await(what string, wanted func(databaseStatus) bool) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		s, err := w.status()
		if err != nil {
			w.t.Fatal(err)
		}
		waiting := slices.DeleteFunc(s.Databases, wanted)
		if len(waiting) == 0 {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("not %s within a minute: %+v\n%s", what, waiting, w.daemon.log())
		}
	}
}

// awaitShipped returns when all that is committed is in the store.
func (w *world) awaitShipped() {
	w.t.Helper()
	w.await("shipped", func(d databaseStatus) bool {
		return d.Capture == "following" && d.Shipped == d.Captured && d.Queued == 0
	})
}
