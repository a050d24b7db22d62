package live

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// phantom has the sqlite3 program commit without ever learning of it: the fsync
// behind the commit frame fails, or the program is killed in it, before the
// wal-index tells the others. inject is what strace does to that fsync.
func (w *world) phantom(name, inject, statements string) {
	w.t.Helper()
	w.strace(name, "fdatasync,fsync", inject, statements)
}

// strace has the sqlite3 program fail at certain system calls on the log.
func (w *world) strace(name, calls, inject, statements string) {
	w.t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		w.t.Skip("no strace: ", err)
	}
	log := w.path(name) + "-wal"
	cmd := exec.Command("strace", "-qq", "-o", w.t.TempDir()+"/trace", "-P", log, "-e", "trace="+calls,
		"-e", "inject="+calls+":"+inject, "sqlite3", w.path(name), "PRAGMA synchronous=FULL; "+statements)
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		w.t.Fatalf("sqlite3 has committed though %s failed: %s", calls, out)
	case strings.HasPrefix(inject, "error") && !strings.Contains(string(out), "I/O error"):
		w.t.Fatalf("%v: %s", err, out)
	}
}

// A commit that nobody has learnt of is captured where the daemon sees it
// written, as SQLite's recovery would find it, and taken back or undone as soon
// as another is written over it. Where the wal-index tells of commits, it is none.
func TestOverwrittenCommit(t *testing.T) {
	const small = "UPDATE t SET b = 'phantom' WHERE id = 2"
	for _, inject := range []string{"signal=KILL", "error=EIO"} {
		for _, p := range []struct{ name, phantom, next string }{
			{"one page over one", small, "UPDATE t SET b = 'next' WHERE id = 40"},
			{"one page over many", "DELETE FROM t WHERE id > 3", small},
			{"many over one", small, "UPDATE t SET b = randomblob(900)"},
			{"over a shrinking one", "DELETE FROM t WHERE id > 3; VACUUM", "INSERT INTO t (b) VALUES (randomblob(90))"},
			{"over a growing one", "INSERT INTO t (b) VALUES (randomblob(90000))", small},
			{"rolled back", small, "BEGIN; PRAGMA cache_size=2; UPDATE t SET b = randomblob(900); ROLLBACK"},
		} {
			for _, way := range []string{"passed", "taken back", "undone"} {
				t.Run(fmt.Sprintf("%s/%s/%s", inject, p.name, way), func(t *testing.T) {
					testOverwritten(t, "", inject, p.phantom, p.next, way)
				})
			}
		}
	}
}

// The last frame that is known to others may be padding: a commit frame repeated
// up to the end of a sector, behind which the position is.
func TestOverwrittenBehindPadding(t *testing.T) {
	testOverwritten(t, "psow=0&_synchronous=FULL", "signal=KILL", "UPDATE t SET b = 'phantom' WHERE id = 2", "UPDATE t SET b = 'next' WHERE id = 40", "undone")
}

func testOverwritten(t *testing.T, dsn, inject, phantom, next, way string) {
	w := newWorld(t, inGate)
	w.passed = way == "passed"
	w.mount()
	c := w.open("a.db", dsn)
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 50)
	w.captured("a.db", c)
	c.exec("UPDATE t SET b = zeroblob(10) WHERE id = 2")
	before := c.serialize()
	w.phantom("a.db", inject, phantom)
	if way != "taken back" {
		if err := w.set.save("a.db"); err != nil {
			t.Fatal(err)
		}
		if ignored := w.sink("a.db").holds(before); ignored != (way == "passed") {
			t.Fatalf("the commit was ignored: %v", ignored)
		}
	}
	for range 3 {
		c.exec(next)
		w.captured("a.db", c)
	}
	if _, ok := w.sink("a.db").has(before); !ok {
		t.Error("the state in front of the commit was not captured")
	}
	c.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	c.exec(insert)
	w.captured("a.db", c)
	if n := len(w.sink("a.db").generations); n != 1 {
		t.Errorf("%d generations, want 1", n)
	}
	c.exec("PRAGMA integrity_check")
}

// Without another process the log is recovered when it is opened next, and the
// commit is one.
func TestCommitRecovered(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	other := startSQLite(t)
	c := openSQLite(t, other.Client, "file:"+w.path("a.db"))
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 50)
	other.kill()
	w.phantom("a.db", "signal=KILL", "UPDATE t SET b = 'recovered' WHERE id = 2")
	c = w.open("a.db", "")
	w.captured("a.db", c)
	w.steps("a.db", c, insert, "PRAGMA wal_checkpoint(TRUNCATE)", insert)
}
