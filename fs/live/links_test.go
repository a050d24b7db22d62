package live

import (
	"os"
	"os/exec"
	"testing"
)

func (w *world) link(from, to string) {
	w.t.Helper()
	if err := os.Link(w.path(from), w.path(to)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(name string) {
	w.t.Helper()
	if err := os.Remove(w.path(name)); err != nil {
		w.t.Fatal(err)
	}
}

// A database with two names is followed under one. What is committed through the
// other is captured when the log or journal beside that one has ended.
func TestHardLinks(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, inGate)
			w.mount()
			w.mkdir("b")
			c := w.open("a.db", "")
			c.exec("PRAGMA journal_mode=" + mode)
			fill(c, "t", 20)
			w.capturedFile("a.db", c)
			w.link("a.db", "b/b.db")
			w.commits("a.db", c, insert, "PRAGMA wal_checkpoint(TRUNCATE)", insert)
			c.close()

			for range 2 {
				c = w.open("b/b.db", "")
				c.exec(insert)
				want := c.serialize()
				states := w.sink("a.db").count()
				if err := w.set.save("a.db"); err != nil {
					t.Fatal(err)
				}
				if n := w.sink("a.db").count() - states; mode == "WAL" && n != 0 {
					t.Errorf("%d states captured of a main file that has not everything yet", n)
				}
				c.close()
				w.await("what was committed through the other name is captured", func() bool { return w.sink("a.db").holds(want) })
			}
			w.onlyFollowed("a.db")

			// The name that it was followed under goes, with a connection by the other.
			c = w.open("b/b.db", "")
			c.exec(insert)
			w.remove("a.db")
			w.await("the database is followed under its other name", func() bool { return w.sink("b/b.db").count() > 0 })
			w.capturedFile("b/b.db", c)
			w.commits("b/b.db", c, insert, insert)
			w.onlyFollowed("b/b.db")
			if n := len(w.sink("a.db").generations); n != 1 {
				t.Errorf("%d generations under the first name, want 1", n)
			}
		})
	}
}

// A backup made of hard links (cp -al, rsnapshot) does not take the past from the
// name that is used, though it comes first in the order of paths; and it becomes
// a database of its own when the application replaces the file.
func TestBackupOfHardLinks(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	w.mkdir("data")
	c := w.open("data/app.db", "")
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 20)
	w.commits("data/app.db", c, insert)
	c.close()
	if out, err := exec.Command("cp", "-al", w.path("data"), w.path("backup")).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v %s", err, out)
	}
	c = w.open("data/app.db", "")
	w.commits("data/app.db", c, insert, insert)
	w.onlyFollowed("data/app.db")
	c.close()
	w.unmount()
	w.mount()
	w.onlyFollowed("data/app.db")
	c = w.open("data/app.db", "")
	w.commits("data/app.db", c, insert)
	if n := len(w.sink("data/app.db").generations); n != 1 {
		t.Errorf("%d generations, want 1", n)
	}
	c.close()

	old := readFile(t, w.path("data/app.db"))
	w.sqlite3Shell("new.db", "PRAGMA journal_mode=WAL; CREATE TABLE other (x)")
	w.rename("new.db", "data/app.db", 0)
	w.await("the backup is followed by itself", func() bool { return w.sink("backup/app.db").holds(old) })
	w.captured("data/app.db", w.open("data/app.db", ""))
	w.onlyFollowed("backup/app.db", "data/app.db")
}

// Before anything is known of the past, the name with a log beside it is the one
// that is in use.
func TestHardLinkWithLog(t *testing.T) {
	w := newWorld(t, inGate)
	p, c := w.alone("b.db")
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 20)
	c.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	w.link("b.db", "a.db")
	c.exec(insert)
	want := c.serialize()
	p.kill()
	w.mount()
	w.onlyFollowed("b.db")
	if !w.sink("b.db").holds(want) {
		t.Error("what the log has is not captured")
	}
}
