package live

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// needPassing skips the test where the kernel does not pass I/O on.
func needPassing(t *testing.T) {
	t.Helper()
	w := newWorld(t, inGate)
	w.passed = true
	w.mount()
	if !w.fs.tree.past.Load() {
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
