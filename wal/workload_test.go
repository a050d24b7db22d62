package wal

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/mattn/go-sqlite3"
	"pgregory.net/rapid"
)

// workload does random things to a real database, and follows it with a Tracker
// as a mount would.
type workload struct {
	*rapid.T
	db      *database
	reader  *sqlite3.SQLiteConn // in a read transaction, or nil
	tracker *Tracker
	replica *replica

	inTxn     bool
	savepoint bool
	commits   int // since the last look
	rows      int // number of the next row
}

func newWorkload(t *rapid.T, dir string) *workload {
	pragma := func(name string, values ...string) string {
		return "PRAGMA " + name + "=" + rapid.SampledFrom(values).Draw(t, name)
	}
	// SQLite only pads the log when it also syncs it, which takes its time.
	dsn, synchronous := "", "OFF"
	if rapid.IntRange(0, 9).Draw(t, "padding") == 9 {
		dsn, synchronous = "psow=0", "FULL"
	}
	w := &workload{T: t, tracker: NewTracker(Position{})}
	w.db = newDatabase(t, dir, settings{
		pageSize: rapid.SampledFrom(allPageSizes).Draw(t, "page size"),
		dsn:      dsn,
		create:   []string{pragma("auto_vacuum", "NONE", "FULL", "INCREMENTAL")},
		connect: []string{
			"PRAGMA synchronous=" + synchronous,
			pragma("journal_size_limit", "-1", "0", "50000"),
			pragma("cache_size", "3", "2000"),
		},
	})
	w.replica = newReplica(t, w.db.file(), w.db.pageSize)
	w.commits = 1 // newDatabase's table
	return w
}

// look looks, and compares the replica with what SQLite sees.
func (w *workload) look() {
	w.Helper()
	f, err := os.Open(w.db.path + "-wal")
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	n := 0
	err = w.tracker.Look(f, func(c Commit) error {
		n++
		w.replica.apply(f, c)
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	if n != w.commits {
		w.Fatalf("the log has %d new commits, SQLite made %d", n, w.commits)
	}
	w.commits = 0
	w.replica.check(w.db.content())
	if n == 0 {
		return // the log may have a new header and nothing behind it yet
	}
	if ok, err := w.tracker.Check(f); !ok || err != nil {
		w.Fatalf("the log does not hold the tracker's own position: %v, %v", ok, err)
	}
	err = NewTracker(w.replica.last).Look(f, func(c Commit) error {
		return fmt.Errorf("a commit behind the last one, of %d frames", len(c.Frames))
	})
	if err != nil {
		w.Fatal(err)
	}
}

// committed is called after each commit. Not every one is looked at by itself.
func (w *workload) committed() {
	w.Helper()
	w.commits++
	if rapid.Bool().Draw(w.T, "look") {
		w.look()
	}
}

// change makes sure that what follows changes the database.
func (w *workload) change(q string) {
	w.Helper()
	w.rows++
	q += fmt.Sprintf("; INSERT INTO t(v) VALUES('row %d')", w.rows)
	if !w.inTxn {
		q = "BEGIN; " + q + "; COMMIT"
	}
	w.db.exec(q)
	if !w.inTxn {
		w.committed()
	}
}

func (w *workload) actions() map[string]func(*rapid.T) {
	do := func(f func()) func(*rapid.T) { return func(*rapid.T) { f() } }
	outside := func(f func()) func(*rapid.T) {
		return func(t *rapid.T) {
			if w.inTxn {
				t.Skip()
			}
			f()
		}
	}
	inside := func(f func()) func(*rapid.T) {
		return func(t *rapid.T) {
			if !w.inTxn {
				t.Skip()
			}
			f()
		}
	}
	return map[string]func(*rapid.T){
		"insert": do(func() { w.change("SELECT 1") }),
		"bulk": do(func() {
			n := rapid.IntRange(4, max(8, min(60, 100_000/w.db.pageSize))).Draw(w.T, "rows")
			w.change(fmt.Sprintf(`WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<%d)
				INSERT INTO t(v) SELECT randomblob(%d) FROM n`, n, w.replica.pageSize/2))
		}),
		"update": do(func() {
			w.change(fmt.Sprintf("UPDATE t SET v=randomblob(length(v)) WHERE id %% %d = 0", rapid.IntRange(1, 9).Draw(w.T, "every")))
		}),
		"delete": do(func() {
			w.change(fmt.Sprintf("DELETE FROM t WHERE id %% %d = 0", rapid.IntRange(1, 5).Draw(w.T, "every")))
		}),
		"schema": do(func() { w.change("CREATE TABLE IF NOT EXISTS u(x); DROP TABLE u") }),
		"begin": outside(func() {
			w.db.exec("BEGIN IMMEDIATE")
			w.inTxn, w.savepoint = true, false
		}),
		"savepoint": inside(func() { w.db.exec("SAVEPOINT s"); w.savepoint = true }),
		"rollback to": inside(func() {
			if w.savepoint {
				w.db.exec("ROLLBACK TO s")
			}
		}),
		"rollback": inside(func() { w.db.exec("ROLLBACK"); w.inTxn = false }),
		"commit": inside(func() {
			w.change("SELECT 1")
			w.db.exec("COMMIT")
			w.inTxn = false
			w.committed()
		}),
		"vacuum": outside(func() {
			if w.reader == nil {
				w.db.exec("VACUUM")
				w.committed()
			}
		}),
		"read": do(func() {
			if w.reader == nil {
				w.reader = w.db.dial("BEGIN", "SELECT count(*) FROM t")
			} else if _, err := w.reader.Exec("COMMIT; BEGIN; SELECT count(*) FROM t", nil); err != nil {
				w.Fatal(err)
			}
		}),
		"stop reading": do(func() {
			if w.reader != nil {
				if _, err := w.reader.Exec("COMMIT", nil); err != nil {
					w.Fatal(err)
				}
				w.reader = nil
			}
		}),
		"checkpoint": outside(func() {
			w.look() // the gate
			w.db.checkpoint(rapid.SampledFrom([]string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}).Draw(w.T, "mode"))
			if w.db.logSize() == 0 {
				w.tracker.Reset()
			}
		}),
		"restart": outside(func() {
			w.look()
			if rapid.Bool().Draw(w.T, "keep the log") {
				if err := w.db.conn.SetFileControlInt("main", fcntlPersistWAL, 1); err != nil {
					w.Fatal(err)
				}
			}
			w.reader = nil
			w.db.close()
			if w.db.logSize() <= 0 {
				w.tracker.Reset()
			}
			// A restarted daemon has the position only.
			w.tracker = NewTracker(w.tracker.Position())
			w.db.connect()
		}),
		"look": do(func() {
			if w.db.logSize() > 0 {
				w.look()
			}
		}),
	}
}

// fcntlPersistWAL is SQLITE_FCNTL_PERSIST_WAL.
const fcntlPersistWAL = 10

// A check takes some 100 ms; -rapid.checks=1000 on the command line does more.
func init() {
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
}

// TestTrackerFollowsSQLite is the property the rest stands on: whatever is done to
// a database, what the Tracker finds is what SQLite has committed, transaction
// for transaction and byte for byte.
func TestTrackerFollowsSQLite(t *testing.T) {
	root, n := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(root, fmt.Sprint(n))
		if err := os.Mkdir(dir, 0o700); err != nil {
			rt.Fatal(err)
		}
		w := newWorkload(rt, dir)
		defer w.db.close()
		rt.Repeat(w.actions())
		if w.inTxn {
			w.db.exec("ROLLBACK")
			w.inTxn = false
		}
		w.change("SELECT 1")
		if w.commits > 0 {
			w.look()
		}
	})
}
