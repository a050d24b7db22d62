package live

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// guardedWorld is one whose backing directory can be reached by a path of its own.
func guardedWorld(t *testing.T) *world {
	w := newWorld(t, inGate)
	w.backing = filepath.Join(filepath.Dir(w.dir), "plain")
	if err := os.Mkdir(w.backing, 0755); err != nil {
		t.Fatal(err)
	}
	return w
}

// outside runs the sqlite3 program on the backing file of a database.
func (w *world) outside(name, statements string) (string, error) {
	out, err := exec.Command("sqlite3", "-batch", "-bail", filepath.Join(w.backing, name), statements).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (w *world) lockedOut(name string) {
	w.t.Helper()
	for _, q := range []string{"SELECT count(*) FROM t", "DELETE FROM t"} {
		if out, err := w.outside(name, q); err == nil || !strings.Contains(out, "database is locked") {
			w.t.Errorf("%s by another path: %v: %s", q, err, out)
		}
	}
}

// While the application has a database open, SQLite that reaches it by another
// path is told that it is locked. Afterwards it is free, and what was done
// there is seen in the mount, and captured.
func TestGuard(t *testing.T) {
	needSQLite(t)
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			w := guardedWorld(t)
			w.mount()
			c := w.open("a.db", "")
			c.exec("PRAGMA journal_mode=" + mode)
			fill(c, "t", 10)
			w.capturedFile("a.db", c)
			w.lockedOut("a.db")
			second := w.open("a.db", "")
			second.exec(insert)
			c.close()
			w.lockedOut("a.db")
			w.rename("a.db", "b.db", 0)
			if mode == "WAL" {
				w.rename("a.db-wal", "b.db-wal", 0)
			}
			w.lockedOut("b.db")
			second.close()

			w.await("the database is free", func() bool { _, err := w.outside("b.db", "SELECT 1 FROM t"); return err == nil })
			if mode == "WAL" { // SQLite did not find the log again that was moved
				w.sqlite3Shell("b.db", "PRAGMA wal_checkpoint(TRUNCATE)")
			}
			for i := range 3 {
				w.await("the database is changed outside", func() bool {
					out, err := w.outside("b.db", fmt.Sprintf("UPDATE t SET b='outside %d'; SELECT count(*) FROM t WHERE b='outside %d'", i, i))
					return err == nil && out == "11"
				})
				c = w.open("b.db", "")
				if got := c.query(fmt.Sprintf("SELECT count(*) FROM t WHERE b = 'outside %d'", i)); got != 11 {
					t.Errorf("%d rows have been changed for the mount, want 11", got)
				}
				w.capturedFile("b.db", c)
				w.commits("b.db", c, insert, fmt.Sprintf("DELETE FROM t WHERE id > %d", 11))
				c.close()
			}
			w.await("nothing is held of a database that is not in use", func() bool { return len(held(t, w.backing)) == 0 })
			if n := w.said.says("level=ERROR"); n != 0 {
				t.Errorf("%d errors were logged", n)
			}
		})
	}
}

// held returns the files below dir that this process has open.
func held(t *testing.T, dir string) (files []string) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if file, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(file, dir+"/") {
			files = append(files, file)
		}
	}
	return files
}

// Another mount namespace may see the directory below the mount.
func TestGuardAgainstNamespace(t *testing.T) {
	needSQLite(t)
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("a.db", "")
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 10)
	below := func() (string, error) {
		out, err := exec.Command("unshare", "-m", "sh", "-c", `umount -l "$1" && sqlite3 "$1/a.db" "SELECT count(*) FROM t"`, "sh", w.dir).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	out, err := below()
	if strings.HasPrefix(out, "unshare:") {
		t.Skip("no mount namespaces: ", out)
	}
	if err == nil || !strings.Contains(out, "database is locked") {
		t.Errorf("in another namespace: %v: %s", err, out)
	}
	c.close()
	w.await("the database is free", func() bool { out, _ = below(); return out == "10" })
}

// Who has a database open by another path already is told of, by its process.
// The application goes on; and as soon as that one is gone it is guarded again,
// and what that one did is captured.
func TestSomebodyIsThereAlready(t *testing.T) {
	needSQLite(t)
	w := guardedWorld(t)
	if out, err := w.outside("a.db", "PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 'before')"); err != nil {
		t.Fatal(out)
	}
	other := startSQLite(t)
	outside := openSQLite(t, other.Client, "file:"+filepath.Join(w.backing, "a.db"))
	outside.exec("SELECT * FROM t")
	w.mount()
	f, err := os.OpenFile(w.path("a.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	who := fmt.Sprintf("process=\"%d (", other.cmd.Process.Pid)
	if n := w.said.says(who); n != 1 {
		t.Errorf("%d lines name the process that is there", n)
	}
	outside.exec("INSERT INTO t VALUES (2, 'outside')")
	outside.close()
	w.await("the database is guarded again", func() bool {
		out, err := w.outside("a.db", "SELECT count(*) FROM t")
		return err != nil && strings.Contains(out, "database is locked")
	})
	want := readFile(t, filepath.Join(w.backing, "a.db"))
	w.await("what was done outside is captured", func() bool { return w.sink("a.db").holds(want) })
	if n := w.said.says("level=ERROR"); n != 1 {
		t.Errorf("%d errors were logged, want one", n)
	}
}

// A file that is no database is not guarded, until it becomes one.
func TestGuardOfOtherFiles(t *testing.T) {
	w := guardedWorld(t)
	writeFile(t, filepath.Join(w.backing, "note"), []byte("no database"))
	w.mount()
	locked := func(name string) bool {
		f, err := os.OpenFile(filepath.Join(w.backing, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: pendingByte, Len: 1}
		err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
		if err != nil && !errors.Is(err, syscall.EAGAIN) {
			t.Fatal(err)
		}
		return err != nil
	}
	f, err := os.OpenFile(w.path("note"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if locked("note") {
		t.Error("a file that is no database is guarded")
	}
	// It becomes one while it is open.
	w.sqlite3Shell("other.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
	if _, err := f.WriteAt(readFile(t, w.path("other.db")), 0); err != nil {
		t.Fatal(err)
	}
	w.await("it is followed", func() bool { return w.sink("note").count() > 0 })
	if !locked("note") {
		t.Error("a file that has become a database is not guarded")
	}
}

// A database that the daemon may only read is guarded against writers.
func TestGuardOfReadOnlyFiles(t *testing.T) {
	needSQLite(t)
	w := guardedWorld(t)
	if out, err := w.outside("a.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)"); err != nil {
		t.Fatal(out)
	}
	plain, readOnly := w.backing, filepath.Join(filepath.Dir(w.backing), "readonly")
	w.backing = readOnly
	if err := os.Mkdir(w.backing, 0755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(plain, w.backing, "", unix.MS_BIND, ""); err != nil {
		t.Skip("no bind mounts: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(readOnly, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", w.backing, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	w.mount()
	c := w.open("a.db", "mode=ro")
	if n := c.query("SELECT count(*) FROM t"); n != 1 {
		t.Errorf("%d rows", n)
	}
	w.backing = plain
	if out, err := w.outside("a.db", "SELECT count(*) FROM t"); err != nil || out != "1" {
		t.Errorf("a reader: %v: %s", err, out)
	}
	if out, err := w.outside("a.db", "DELETE FROM t"); err == nil || !strings.Contains(out, "database is locked") {
		t.Errorf("a writer: %v: %s", err, out)
	}
}
