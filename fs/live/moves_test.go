package live

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// rename renames what is called from in the mount.
func (w *world) rename(from, to string, flags uint) {
	w.t.Helper()
	if err := unix.Renameat2(unix.AT_FDCWD, w.path(from), unix.AT_FDCWD, w.path(to), flags); err != nil {
		w.t.Fatalf("renaming %s to %s: %v", from, to, err)
	}
}

func (w *world) mkdir(name string) {
	w.t.Helper()
	if err := os.Mkdir(w.path(name), 0755); err != nil {
		w.t.Fatal(err)
	}
}

// followed returns the paths of the databases that are captured.
func (w *world) followed() (paths []string) {
	for _, st := range w.set.status() {
		paths = append(paths, st.Path)
	}
	return paths
}

func (w *world) onlyFollowed(want ...string) {
	w.t.Helper()
	if got := w.followed(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%q are captured, want %q", got, want)
	}
}

// commits makes commits with c, and wants the state after each captured under
// name, and nothing else captured anywhere.
func (w *world) commits(name string, c *conn, statements ...string) {
	w.t.Helper()
	if err := w.set.settle(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	for _, q := range statements {
		before := w.counts(name)
		c.exec(q)
		w.capturedFile(name, c)
		if after := w.counts(name); after != before {
			w.t.Errorf("%s: %d states are captured under other names, there were %d", q, after, before)
		}
	}
}

// capturedFile is captured, for a database that may have no log: then the file
// is what is committed. What SQLite serializes has free pages as its cache has
// them, though it never wrote them.
func (w *world) capturedFile(name string, c *conn) {
	w.t.Helper()
	if _, err := os.Stat(w.path(name + logSuffix)); err == nil {
		w.captured(name, c)
		return
	}
	if want := readFile(w.t, w.path(name)); !w.sink(name).holds(want) {
		w.t.Fatalf("the newest captured state of %s is not the file: %s", name, difference(w.sink(name).mark().pages, want, 512))
	}
}

// counts returns how many states are captured of all databases but name.
func (w *world) counts(name string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for other, r := range w.sinks {
		if other != name {
			n += r.count()
		}
	}
	return n
}

// An application keeps its connection while the directory of the database is
// renamed. In WAL mode it goes on committing as before; with a journal it needs
// the old path too, which a symbolic link gives it.
func TestOpenDatabaseMoves(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE", "TRUNCATE", "PERSIST"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, inGate)
			w.mount()
			w.mkdir("eu")
			c := w.open("eu/a.db", "")
			c.exec("PRAGMA journal_mode=" + mode)
			fill(c, "t", 30)
			w.commits("eu/a.db", c, insert, insert)

			w.rename("eu", "us", 0)
			if mode != "WAL" {
				if err := os.Symlink("us", w.path("eu")); err != nil {
					t.Fatal(err)
				}
			}
			w.commits("us/a.db", c, insert, insert, "UPDATE t SET b = randomblob(900)")
			if mode == "WAL" {
				w.commits("us/a.db", c, "PRAGMA wal_checkpoint(TRUNCATE)", insert)
			} else if err := os.Remove(w.path("eu")); err != nil {
				t.Fatal(err)
			}
			w.onlyFollowed("us/a.db")

			w.rename("us", "eu", 0)
			w.commits("eu/a.db", c, insert, "DELETE FROM t WHERE id > 10")
			w.onlyFollowed("eu/a.db")
			if n := len(w.sink("us/a.db").generations); n != 1 {
				t.Errorf("%d generations under the name in between, want 1", n)
			}
		})
	}
}

// Directories exchanged, and a transaction that is under way meanwhile.
func TestOpenDatabasesAreExchanged(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	var conns []*conn
	for i, dir := range []string{"x", "y"} {
		w.mkdir(dir)
		c := w.open(dir+"/a.db", "_cache_size=5")
		c.exec("PRAGMA journal_mode=WAL")
		fill(c, "t", 30+i)
		w.captured(dir+"/a.db", c)
		conns = append(conns, c)
	}
	conns[0].exec("BEGIN")
	conns[0].exec("UPDATE t SET b = randomblob(2000)") // spills
	w.rename("x", "y", unix.RENAME_EXCHANGE)
	w.commits("y/a.db", conns[0], "COMMIT", insert)
	w.commits("x/a.db", conns[1], insert, "PRAGMA wal_checkpoint(TRUNCATE)", insert)
	w.rename("x/a.db", "y/b.db", 0)
	w.rename("x/a.db-wal", "y/b.db-wal", 0)
	w.commits("y/b.db", conns[1], insert, insert)
	w.onlyFollowed("y/a.db", "y/b.db")
}

// Who has a database open that is removed or replaced goes on writing to a file
// without a name. The one that has the name now is not concerned.
func TestReplacedDatabaseIsNobodys(t *testing.T) {
	for _, mode := range []string{"WAL", "MEMORY"} {
		for _, way := range []string{"rename", "remove"} {
			t.Run(mode+"/"+way, func(t *testing.T) {
				w := newWorld(t, inGate)
				w.mount()
				old := w.open("a.db", "_cache_size=5")
				old.exec("PRAGMA journal_mode=" + mode)
				fill(old, "t", 50)
				w.await("the first database is captured", func() bool {
					return w.set.save("a.db") == nil && w.sink("a.db").holds(old.serialize())
				})
				w.sqlite3Shell("b.db", "PRAGMA journal_mode=WAL; CREATE TABLE other (x); INSERT INTO other VALUES (1)")
				w.captured("b.db", w.open("b.db", ""))

				for _, suffix := range []string{"-wal", "-shm"} {
					if err := os.Remove(w.path("a.db" + suffix)); err != nil && !os.IsNotExist(err) {
						t.Fatal(err)
					}
				}
				if way == "remove" {
					if err := os.Remove(w.path("a.db")); err != nil {
						t.Fatal(err)
					}
				}
				w.rename("b.db", "a.db", 0)
				c := w.open("a.db", "")
				w.captured("a.db", c)
				generations, states := len(w.sink("a.db").generations), w.sink("a.db").count()
				old.exec("UPDATE t SET b = randomblob(1000)")
				old.exec(insert)
				w.captured("a.db", c)
				if n := w.sink("a.db").count() - states; n != 0 {
					t.Errorf("%d states captured of a database that has no name", n)
				}
				w.commits("a.db", c, "INSERT INTO other VALUES (2)", "PRAGMA wal_checkpoint(TRUNCATE)", "INSERT INTO other VALUES (3)")
				if n := len(w.sink("a.db").generations); n != generations {
					t.Errorf("%d generations, want %d", n, generations)
				}
				w.onlyFollowed("a.db")
			})
		}
	}
}

// A database is moved in by its parts: first the file, then the log with
// commits that are not in the file.
func TestMovedWithItsLog(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	p, c := w.alone("a.db")
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 20)
	c.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	c.exec(insert)
	want := c.serialize()
	p.kill()
	w.rename("a.db", "b.db", 0)
	w.rename("a.db-wal", "b.db-wal", 0)
	if err := w.set.save("b.db"); err != nil {
		t.Fatal(err)
	}
	if !w.sink("b.db").holds(want) {
		t.Error("what the log has is not captured")
	}
	c = w.open("b.db", "")
	if got := c.serialize(); !bytes.Equal(got, want) {
		t.Fatal("the commit in the log is lost: nothing is tested")
	}
	w.commits("b.db", c, insert)
}
