package live

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// These tests go through what SQLite and its users do to a database, beyond
// what the random workloads do. docs/capture.md lists them.

// fill makes a table with rows, one transaction.
func fill(c *conn, table string, rows int) {
	c.t.Helper()
	c.exec(fmt.Sprintf("CREATE TABLE %s (id INTEGER PRIMARY KEY, b BLOB)", table))
	c.exec(fmt.Sprintf("WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < %d) INSERT INTO %s (b) SELECT randomblob(1000) FROM n", rows, table))
}

// steps executes statements, and wants the state after each captured, all in
// one generation.
func (w *world) steps(name string, c *conn, statements ...string) {
	w.t.Helper()
	for _, q := range statements {
		c.exec(q)
		w.captured(name, c)
	}
	if n := len(w.sink(name).generations); n != 1 {
		w.t.Errorf("%d generations, want 1", n)
	}
}

const insert = "INSERT INTO t (b) VALUES (randomblob(3000))"

func TestSectorPadding(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("a.db", "psow=0&_synchronous=FULL")
	c.exec("PRAGMA page_size=512")
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 3)
	w.captured("a.db", c)
	before := w.sink("a.db").count()
	w.steps("a.db", c, insert, insert, insert)
	if n := w.sink("a.db").count() - before; n != 3 {
		t.Errorf("%d transactions captured of 3", n)
	}
}

func TestExclusiveLocking(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("a.db", "")
	c.exec("PRAGMA locking_mode=EXCLUSIVE")
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 3)
	w.steps("a.db", c, insert, "PRAGMA wal_checkpoint(TRUNCATE)", insert, "PRAGMA wal_checkpoint(RESTART)", insert)
	if _, err := os.Stat(w.path("a.db-shm")); err == nil {
		t.Error("there is a wal-index: this is not what was to be tested")
	}
}

func TestJournalSizeLimit(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("a.db", "")
	c.exec("PRAGMA journal_mode=WAL")
	c.exec("PRAGMA journal_size_limit=10000") // not a multiple of a frame
	fill(c, "t", 50)
	for range 5 {
		w.steps("a.db", c, "UPDATE t SET b = randomblob(1000)", "PRAGMA wal_checkpoint(RESTART)", insert, insert)
	}
}

func TestPersistentLog(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	w.sqlite3Shell("a.db", "PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, b)")
	for i := range 4 {
		out, err := exec.Command("sqlite3", "-bail", w.path("a.db"), ".filectrl persist_wal 1",
			fmt.Sprintf("INSERT INTO t (b) VALUES (%d); INSERT INTO t (b) VALUES (randomblob(%d))", i, 5000*i)).CombinedOutput()
		if err != nil {
			t.Fatalf("sqlite3: %v\n%s", err, out)
		}
		if st, err := os.Stat(w.path("a.db-wal")); err != nil || st.Size() == 0 {
			t.Fatalf("the log did not persist: %v", err)
		}
	}
	w.steps("a.db", w.open("a.db", ""), insert)
}

func TestPageSizeChange(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("a.db", "")
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 50)
	w.captured("a.db", c)
	c.exec("PRAGMA journal_mode=DELETE")
	c.exec("PRAGMA page_size=8192")
	c.exec("VACUUM")
	c.exec("PRAGMA journal_mode=WAL")
	w.captured("a.db", c)
	if g := w.sink("a.db").current(); g.mark.PageSize != 8192 || len(w.sink("a.db").generations) != 2 {
		t.Errorf("%d generations, the newest with pages of %d bytes", len(w.sink("a.db").generations), g.mark.PageSize)
	}
	c.exec(insert)
	w.captured("a.db", c)
}

func TestAutoVacuum(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("a.db", "")
	c.exec("PRAGMA auto_vacuum=FULL")
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 200)
	w.steps("a.db", c, "DELETE FROM t WHERE id > 20", insert, "PRAGMA wal_checkpoint(TRUNCATE)", "DELETE FROM t", insert)
}

func TestTransactionOverTwoDatabases(t *testing.T) {
	for _, mode := range []string{"DELETE", "PERSIST", "WAL"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, inGate)
			w.mount()
			a, b := w.open("a.db", ""), w.open("b.db", "")
			for _, c := range []*conn{a, b} {
				c.exec("PRAGMA journal_mode=" + mode)
				fill(c, "t", 10)
			}
			a.exec("ATTACH '" + w.path("b.db") + "' AS b")
			w.captured("a.db", a)
			w.captured("b.db", b)
			countA, countB := w.sink("a.db").count(), w.sink("b.db").count()
			a.exec("BEGIN; UPDATE main.t SET b = 'both'; UPDATE b.t SET b = 'both'; COMMIT")
			w.captured("a.db", a)
			w.captured("b.db", b)
			a.exec("BEGIN; UPDATE main.t SET b = 'neither'; UPDATE b.t SET b = 'neither'; ROLLBACK")
			w.captured("a.db", a)
			w.captured("b.db", b)
			if n, m := w.sink("a.db").count()-countA, w.sink("b.db").count()-countB; n != 1 || m != 1 {
				t.Errorf("%d and %d transactions captured, want one of each database", n, m)
			}
		})
	}
}

func TestDatabaseIsReplacedByOthers(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("a.db", "")
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 10)
	w.captured("a.db", c)

	c.exec("VACUUM INTO '" + w.path("into.db") + "'")
	w.await("what VACUUM INTO wrote is captured", func() bool { return w.sink("into.db").holds(readFile(t, w.path("into.db"))) })

	w.sqlite3Shell("a.db", ".backup "+w.path("backup.db"))
	w.await("a backup is captured", func() bool { return w.sink("backup.db").holds(readFile(t, w.path("backup.db"))) })

	w.sqlite3Shell("other.db", "PRAGMA journal_mode=WAL; CREATE TABLE other (x); INSERT INTO other VALUES (1)")
	w.sqlite3Shell("a.db", ".restore "+w.path("other.db"))
	w.captured("a.db", w.open("a.db", ""))
	c.close()

	if out, err := exec.Command("cp", w.path("other.db"), w.path("into.db")).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v %s", err, out)
	}
	w.await("a database copied over another is captured", func() bool { return w.sink("into.db").holds(readFile(t, w.path("other.db"))) })
	if err := os.Rename(w.path("other.db"), w.path("backup.db")); err != nil {
		t.Fatal(err)
	}
	w.await("a database renamed over another is captured", func() bool { return w.sink("backup.db").holds(readFile(t, w.path("into.db"))) })
}

// TestFramesOutsideTheChain has the sqlite3 program commit frames that are not
// part of the log's chain of checksums, which versions before 3.41 do when a
// transaction spills, writes a page again, and goes back to a savepoint. No
// reader of the log can find them; the checkpoint shows them.
func TestFramesOutsideTheChain(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	w.sqlite3Shell("a.db", `PRAGMA journal_mode=WAL; PRAGMA cache_size=5;
		CREATE TABLE t (id INTEGER PRIMARY KEY, b);
		WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 300) INSERT INTO t (b) SELECT randomblob(1000) FROM n;
		BEGIN;
		INSERT INTO t (b) VALUES ('before');
		SAVEPOINT s;
		UPDATE t SET b = randomblob(1000) WHERE id < 250;
		UPDATE t SET b = randomblob(1000) WHERE id BETWEEN 200 AND 250;
		UPDATE t SET b = randomblob(1000) WHERE id BETWEEN 200 AND 250;
		ROLLBACK TO s;
		INSERT INTO t (b) VALUES ('outside');
		COMMIT;
		INSERT INTO t (b) VALUES ('after');
		PRAGMA wal_checkpoint(TRUNCATE);
		INSERT INTO t (b) VALUES ('later');`)
	w.captured("a.db", w.open("a.db", ""))
}
