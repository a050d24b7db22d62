package live

import (
	"os"
	"path/filepath"
	"testing"
)

// guardedDatabase returns a world with a database in WAL mode whose files nobody
// has open, and a connection to it from another process, by another path.
func guardedDatabase(t *testing.T) (*world, *conn) {
	needSQLite(t)
	w := guardedWorld(t)
	w.mount()
	w.set.settleTime = 0 // whoever sweeps here is the test
	c := w.open("a.db", "")
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 10)
	w.captured("a.db", c)
	other := startSQLite(t)
	c.close()
	w.unused("a.db")
	return w, openSQLite(t, other.Client, "file:"+filepath.Join(w.backing, "a.db")+"?_busy_timeout=10000")
}

// unused waits until nobody has a file of the database open in the mount.
func (w *world) unused(name string) {
	w.t.Helper()
	w.await("nobody has it open", func() bool {
		w.set.mu.Lock()
		defer w.set.mu.Unlock()
		return w.set.files[name].handles == 0
	})
}

func (w *world) plainFile(name string) string { return filepath.Join(w.backing, name) }

// Whatever is seen of a database while nobody has it open in the mount, and
// whoever else is at work: what is committed in the mount then is captured, and
// the states on the way are what the database was.
func TestUsedByAnotherWhileUnused(t *testing.T) {
	const update = "UPDATE t SET b = 'outside'"
	tests := []struct {
		name      string
		meanwhile func(w *world, d *database, outside *conn)
	}{
		// The log is seen that is there for as long as the other has the database
		// open. All of it is in the file already when it ends, which leaves the file
		// as it was seen.
		{"its log is seen, and goes", func(w *world, d *database, outside *conn) {
			outside.exec(update)
			outside.exec("PRAGMA wal_checkpoint(PASSIVE)")
			w.set.putToRest([]*database{d}, false)
			outside.close()
		}},
		{"its log is seen, and is restarted", func(w *world, d *database, outside *conn) {
			outside.exec(update)
			outside.exec("PRAGMA wal_checkpoint(RESTART)")
			w.set.putToRest([]*database{d}, false)
			outside.exec("DELETE FROM t WHERE id = 3")
			w.set.putToRest([]*database{d}, false)
			outside.close()
		}},
		{"its log is seen before the file is changed", func(w *world, d *database, outside *conn) {
			outside.exec(update)
			w.set.putToRest([]*database{d}, false)
			outside.close()
		}},
		{"it rests in the middle of a checkpoint", func(w *world, d *database, outside *conn) {
			outside.exec(update)
			log, file := readFile(w.t, w.plainFile("a.db-wal")), readFile(w.t, w.plainFile("a.db"))
			outside.close()
			whole := readFile(w.t, w.plainFile("a.db"))
			writeFile(w.t, w.plainFile("a.db-wal"), log)
			writeFile(w.t, w.plainFile("a.db"), file) // one page of it is copied, and then the others
			edit(w.t, w.plainFile("a.db"), func(f *os.File) error { _, err := f.WriteAt(whole[:4096], 0); return err })
			w.set.putToRest([]*database{d}, false)
			edit(w.t, w.plainFile("a.db"), func(f *os.File) error { _, err := f.WriteAt(whole, 0); return err })
			if err := os.Remove(w.plainFile("a.db-wal")); err != nil {
				w.t.Fatal(err)
			}
		}},
		// There was somebody else when the mount's last connection closed.
		{"before it was left", func(w *world, d *database, outside *conn) {
			outside.exec("SELECT * FROM t") // has it locked from now on
			f, err := os.OpenFile(w.path("a.db"), os.O_RDWR, 0)
			if err != nil {
				w.t.Fatal(err)
			}
			outside.exec(update)
			outside.exec("PRAGMA wal_checkpoint(TRUNCATE)")
			if err := f.Close(); err != nil {
				w.t.Fatal(err)
			}
			w.unused("a.db")
			outside.close()
		}},
		{"its log is left, and taken away", func(w *world, d *database, outside *conn) {
			p, c := w.alone("a.db")
			c.exec(insert)
			c.exec("PRAGMA wal_checkpoint(PASSIVE)")
			p.kill()
			w.unused("a.db")
			if err := os.Remove(w.plainFile("a.db-wal")); err != nil {
				w.t.Fatal(err)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w, outside := guardedDatabase(t)
			test.meanwhile(w, w.set.known("a.db"), outside)
			whole := readFile(t, w.plainFile("a.db"))
			c := w.open("a.db", "")
			c.query("SELECT count(*) FROM t") // which opens it: past the daemon it is compared in the background
			w.commits("a.db", c, insert)
			if _, ok := w.sink("a.db").has(whole); !ok {
				t.Error("the state in which the mount has found the database is not captured")
			}
			w.commits("a.db", c, "DELETE FROM t WHERE id > 11", "PRAGMA wal_checkpoint(TRUNCATE)", insert)
			if n := w.said.says("the log ended, and"); n != 0 {
				t.Error("it is not known what the log had")
			}
		})
	}
}
