package live

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/wal"
)

// needPassing skips the test where the kernel does not pass I/O on.
func needPassing(t *testing.T) {
	t.Helper()
	w := newWorld(t, inGate)
	w.passed = true
	w.mount()
	if !w.fs.tree.past {
		t.Skip("the kernel does not pass reads and writes on to the backing files")
	}
}

// TestPassed runs the tests of the capture once more with reads and writes that
// go past the daemon.
func TestPassed(t *testing.T) {
	if *passedFlag {
		t.Skip("this is that run")
	}
	needPassing(t)
	const capture = "Captur|Commit|Fork|Log|Journal|Move|Exchange|Link|Verify|Padding|Exclusive|Page|Vacuum|Replaced|Image|Hot|Database|Guard|Somebody"
	cmd := exec.Command(os.Args[0], "-test.run", capture, "-live.passed", "-test.timeout=4m")
	if testing.Short() {
		cmd.Args = append(cmd.Args, "-test.short")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s\n%s", cmd, err, out)
	} else if !strings.Contains(string(out), "PASS") {
		t.Errorf("%v: %s", cmd, out)
	}
}

// Who has had a log open since before the mount keeps others from it, however it
// is mounted; and as soon as that one is gone, they are let in.
func TestSecondWriterIsRefused(t *testing.T) {
	w := newWorld(t, inGate)
	w.begun("a.db", "WAL")
	before := startSQLite(t)
	c := openSQLite(t, before.Client, "file:"+w.path("a.db"))
	c.exec("UPDATE t SET b = 'before' WHERE id = 3")
	w.mount()
	out, err := exec.Command("sqlite3", w.path("a.db"), "SELECT count(*) FROM t").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "unable to open database file") {
		t.Fatalf("a second writer: %v: %s", err, out)
	}
	if w.said.says("the database is refused") == 0 {
		t.Error("nothing was said of it")
	}
	before.kill()
	again := w.open("a.db", "")
	again.exec("UPDATE t SET b = 'after' WHERE id = 4")
	w.captured("a.db", again)
}

// The last commit of a process is captured though nothing is heard of it but that
// the process has gone: the log is not followed any more then.
func TestLastCommitOfKilledProcess(t *testing.T) {
	needPassing(t)
	w := newWorld(t, inGate)
	w.passed = true
	w.begun("a.db", "WAL")
	other := startSQLite(t)
	w.mount()
	w.set.tail.close() // it would see the commit, if it was in time
	c := openSQLite(t, other.Client, "file:"+w.path("a.db"))
	c.exec("UPDATE t SET b = 'the last' WHERE id = 3")
	want := c.serialize()
	other.kill()
	for deadline := time.After(10 * time.Second); !w.sink("a.db").holds(want); {
		if err := w.sink("a.db").Save(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-deadline:
			t.Fatal("the last commit was not captured")
		case <-time.After(time.Millisecond):
		}
	}
}

// A connection with EXCLUSIVE locking restarts the log over and over, while the
// wal-index that others have left seems to be in use.
func TestExclusiveBesideIndexOfOthers(t *testing.T) {
	needPassing(t)
	needSQLite(t)
	w := newWorld(t, inGate)
	w.passed = true
	w.begun("a.db", "WAL")
	before := startSQLite(t)
	w.mount()
	openSQLite(t, before.Client, "file:"+w.path("a.db")).exec("UPDATE t SET b = 'indexed' WHERE id = 3")
	index, err := os.Open(w.path("a.db-shm"))
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close() // only held
	before.kill()
	var script strings.Builder
	script.WriteString("PRAGMA locking_mode=EXCLUSIVE;")
	if err := w.set.save("a.db"); err != nil {
		t.Fatal(err)
	}
	want := w.sink("a.db").mark().mark.Txn.ID
	for _, mode := range []string{"RESTART", "RESTART", "TRUNCATE", "TRUNCATE", "PASSIVE", "RESTART", "FULL"} {
		for range 3 {
			script.WriteString("UPDATE t SET b = randomblob(3000) WHERE id = 1 + abs(random()) % 100;")
			want++
		}
		fmt.Fprintf(&script, "PRAGMA wal_checkpoint(%s);", mode)
	}
	w.sqlite3Shell("a.db", script.String())
	if err := index.Close(); err != nil {
		t.Fatal(err)
	}
	w.captured("a.db", w.open("a.db", ""))
	if got := w.sink("a.db").mark().mark.Txn.ID; got != want {
		t.Errorf("the newest transaction is %d, want %d", got, want)
	}
	if n := len(w.sink("a.db").generations); n != 1 {
		t.Errorf("%d generations, want 1", n)
	}
}

// A connection that has never restarted the log does so with salts of its own when
// the one that was about to has died in front of the header.
func TestRestartBegunByAnother(t *testing.T) {
	for _, way := range []string{"passed", "through the daemon"} {
		t.Run(way, func(t *testing.T) {
			if way == "passed" {
				needPassing(t)
			}
			w := newWorld(t, inGate)
			w.passed = way == "passed"
			w.mount()
			c := w.open("a.db", "")
			c.exec("PRAGMA journal_mode=WAL")
			fill(c, "t", 50)
			c.exec("PRAGMA wal_checkpoint(FULL)")
			w.captured("a.db", c)
			header := func() wal.Header {
				b, err := os.ReadFile(w.path("a.db-wal"))
				if err != nil {
					t.Fatal(err)
				}
				h, err := wal.ParseHeader(b)
				if err != nil {
					t.Fatal(err)
				}
				return h
			}
			old := header()
			w.strace("a.db", "pwrite64", "signal=KILL:error=EIO", "UPDATE t SET b = 'never' WHERE id = 2")
			if header() != old {
				t.Fatal("the log was restarted")
			}
			w.set.tail.close() // so that they are found all at once
			var contents [][]byte
			for range 3 {
				c.exec(insert)
				contents = append(contents, c.serialize())
			}
			if now := header(); now.Salt1 == old.Salt1+1 {
				t.Fatalf("the salts are the next ones, which is not what was to be tested: %+v, %+v", old, now)
			}
			w.captured("a.db", c)
			for i, content := range contents {
				if _, ok := w.sink("a.db").has(content); !ok {
					t.Errorf("the state after commit %d was not captured", i)
				}
			}
			if n := len(w.sink("a.db").generations); n != 1 || w.said.says("cannot be continued") > 0 {
				t.Errorf("capture has begun anew (%d generations)", n)
			}
		})
	}
}
