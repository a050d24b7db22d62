package live

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestEveryJournalledCommitIsCaptured runs a workload in each journal mode that
// tells when it commits.
func TestEveryJournalledCommitIsCaptured(t *testing.T) {
	for _, mode := range []string{"DELETE", "TRUNCATE", "PERSIST"} {
		for _, pageSize := range []int{512, 4096} {
			t.Run(fmt.Sprint(mode, pageSize), func(t *testing.T) {
				w := newWorld(t, inGate)
				w.mount()
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				testEveryJournalledCommit(w, mode, pageSize, rand.New(rand.NewPCG(seed, 0)))
			})
		}
	}
}

func testEveryJournalledCommit(w *world, mode string, pageSize int, rng *rand.Rand) {
	conns := []*conn{w.open("db.sqlite", ""), w.open("db.sqlite", "_cache_size=5")}
	conns[0].exec(fmt.Sprintf("PRAGMA page_size=%d", pageSize))
	for _, c := range conns {
		c.exec("PRAGMA journal_mode=" + mode)
	}
	conns[0].exec("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
	r := w.sink("db.sqlite")
	for i := range 60 {
		c := conns[rng.IntN(len(conns))]
		step(w, c, pageSize, rng)
		// What SQLite serializes has free pages as its cache has them, though
		// it never wrote them. Without a log the file is what is committed.
		want := readFile(w.t, w.path("db.sqlite"))
		if got := r.mark(); !bytes.Equal(got.pages, want) {
			w.t.Fatalf("after step %d (transaction %d): %s", i, got.mark.Txn.ID, difference(got.pages, want, pageSize))
		}
	}
	if n := len(r.generations); n != 1 {
		w.t.Errorf("%d generations, want 1", n)
	}
}

// TestUnjournalledWritesAreCaptured awaits the quiet point that the journal
// modes MEMORY and OFF need.
func TestUnjournalledWritesAreCaptured(t *testing.T) {
	for _, mode := range []string{"MEMORY", "OFF"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, inGate)
			w.mount()
			c := w.open("db.sqlite", "_cache_size=5")
			c.exec("PRAGMA journal_mode=" + mode)
			c.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
			r := w.sink("db.sqlite")
			w.await("the new database is captured", func() bool { return r.count() > 0 })
			for range 3 {
				c.exec("BEGIN")
				c.exec("WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 40) INSERT INTO t (b) SELECT randomblob(4000) FROM n")
				before := r.count()
				c.exec("COMMIT")
				w.await("the commit is captured", func() bool { return r.count() > before })
				want := c.serialize()
				w.await("all of it is captured", func() bool { _, ok := r.has(want); return ok })
			}
			// The end of the mount is a quiet point too.
			c.exec("DELETE FROM t WHERE id > 50")
			want := c.serialize()
			c.close()
			w.unmount()
			if _, ok := r.has(want); !ok {
				t.Error("what was written just before the mount ended is not captured")
			}
		})
	}
}

func TestJournalModeChangesWhileOpen(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("db.sqlite", "")
	c.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
	r := w.sink("db.sqlite")
	for _, mode := range []string{"WAL", "DELETE", "WAL", "PERSIST", "TRUNCATE", "WAL", "DELETE"} {
		c.exec("PRAGMA journal_mode=" + mode)
		w.captured("db.sqlite", c)
		for range 3 {
			c.exec("INSERT INTO t (b) VALUES (randomblob(3000))")
			w.captured("db.sqlite", c)
		}
	}
	if n := len(r.generations); n != 1 {
		t.Errorf("%d generations, want 1", n)
	}
}

// TestHotJournalIsNoCommit kills SQLite in the middle of a transaction that has
// written to the file, and mounts anew before and after the rollback.
func TestHotJournalIsNoCommit(t *testing.T) {
	for _, remount := range []bool{false, true} {
		t.Run(fmt.Sprintf("remount=%v", remount), func(t *testing.T) {
			w := newWorld(t, inGate)
			w.mount()
			killed := startSQLite(t)
			c := openSQLite(t, killed.Client, "file:"+w.path("db.sqlite")+"?_cache_size=5")
			c.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
			c.exec("WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 100) INSERT INTO t (b) SELECT randomblob(3000) FROM n")
			want := c.serialize()
			before := w.sink("db.sqlite").count()
			c.exec("BEGIN")
			c.exec("UPDATE t SET b = randomblob(3000)")
			killed.kill()
			if remount {
				w.unmount()
				w.mount()
			}
			after := w.open("db.sqlite", "")
			if string(after.serialize()) != string(want) {
				t.Fatal("SQLite did not roll back")
			}
			w.captured("db.sqlite", after)
			if n := w.sink("db.sqlite").count(); n != before {
				t.Errorf("%d transactions captured of one that was rolled back", n-before)
			}
			after.exec("DELETE FROM t")
			w.captured("db.sqlite", after)
			if n := len(w.sink("db.sqlite").generations); n != 1 {
				t.Errorf("%d generations, want 1", n)
			}
		})
	}
}

// TestNoImageOfHalfATransaction has capture begin again while a transaction has
// written a part of itself to the file.
func TestNoImageOfHalfATransaction(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("db.sqlite", "_cache_size=5")
	fill(c, "t", 100)
	r := w.sink("db.sqlite")
	r.fail(errors.New("the disk is full"))
	c.exec("INSERT INTO t (b) VALUES ('breaks the capture')")
	want := readFile(t, w.path("db.sqlite"))
	before := r.count()
	c.exec("BEGIN")
	c.exec("UPDATE t SET b = randomblob(3000)") // spills
	r.fail(nil)
	w.await("capture has tried to begin again", func() bool {
		for _, st := range w.set.status() {
			if st.Phase == "broken" {
				return false
			}
		}
		return true
	})
	if n := r.count() - before; n != 0 {
		t.Errorf("%d states captured in the middle of a transaction", n)
	}
	c.exec("ROLLBACK")
	w.await("capture begins after the rollback", func() bool { return r.count() > before })
	if !r.holds(want) {
		t.Error("what was captured is not what was committed")
	}
}
