package live

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/walback/walback/wal"
)

// forked fails unless the newest of n generations goes on from the one before,
// and holds in its first transaction at most so many pages.
func (w *world) forked(name string, n int, pages wal.Pgno) {
	w.t.Helper()
	r := w.sink(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.generations) != n {
		w.t.Fatalf("%d generations, want %d", len(r.generations), n)
	}
	g := r.current()
	if g.parent == 0 {
		w.t.Fatal("the generation began with a whole image")
	}
	if got := g.states[g.parent+1].Pages; got > pages {
		w.t.Errorf("the fork begins with %d pages, want %d at most", got, pages)
	}
}

// alone opens a database of the plain directory, in a process that can be killed.
func (w *world) alone(name string) (*child, *conn) {
	w.t.Helper()
	p := startSQLite(w.t)
	return p, openSQLite(w.t, p.Client, "file:"+w.path(name)+"?_busy_timeout=10000")
}

// begun makes a database with a row of nearly a page in each of its pages, and
// commits to it.
func (w *world) begun(name string, modes ...string) {
	w.t.Helper()
	w.mount()
	c := w.open(name, "")
	for _, mode := range modes {
		c.exec("PRAGMA journal_mode=" + mode)
	}
	c.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
	c.exec("WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 200) INSERT INTO t (b) SELECT randomblob(3500) FROM n")
	c.exec("UPDATE t SET b = randomblob(3500) WHERE id = 7")
	w.captured(name, c)
	c.close()
	w.unmount()
}

// What was written while nothing was mounted is all that the next generation
// begins with.
func TestForkAfterForeignWrites(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		for _, change := range []struct {
			name, statement string
			pages           wal.Pgno
		}{
			{"a row", "UPDATE t SET b = randomblob(3500) WHERE id IN (3, 100)", 3},
			{"shrunk", "DELETE FROM t WHERE id > 190; VACUUM", 100}, // VACUUM moves pages
			{"grown", "INSERT INTO t (b) VALUES (randomblob(12000))", 8},
		} {
			t.Run(mode+"/"+change.name, func(t *testing.T) {
				w := newWorld(t, inGate)
				w.begun("a.db", mode)
				w.sqlite3Shell("a.db", change.statement)
				w.mount()
				c := w.open("a.db", "")
				w.captured("a.db", c)
				w.forked("a.db", 2, change.pages)
				c.exec("UPDATE t SET b = randomblob(3500) WHERE id = 9")
				w.captured("a.db", c)
			})
		}
	}
}

// A power failure takes the end of what was written, though it was captured: the
// fork goes on from the last transaction that is still there, and needs no page.
func TestForkAfterLostTail(t *testing.T) {
	w := newWorld(t, inGate)
	w.begun("a.db", "WAL")
	w.mount()
	p, c := w.alone("a.db")
	c.exec("PRAGMA wal_autocheckpoint=0")
	var contents [][]byte
	for i := range 6 {
		c.exec("UPDATE t SET b = randomblob(3500) WHERE id = ?", i+1)
		contents = append(contents, c.serialize())
	}
	w.captured("a.db", c)
	p.kill()
	w.unmount()
	// The log is as it was some commits ago.
	st, err := os.Stat(w.path("a.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(w.path("a.db-wal"), st.Size()/2); err != nil {
		t.Fatal(err)
	}
	w.mount()
	c = w.open("a.db", "")
	w.captured("a.db", c)
	got := c.serialize()
	if i := slices.IndexFunc(contents, func(b []byte) bool { return bytes.Equal(b, got) }); i < 1 || i == len(contents)-1 {
		t.Fatalf("the database is in state %d: nothing is tested", i)
	}
	w.forked("a.db", 2, 0)
	parent := w.sink("a.db").generations[0]
	if s := parent.states[w.sink("a.db").current().parent]; s.digest != sha256.Sum256(got) {
		t.Errorf("the fork goes on from transaction %d, which is another state", s.ID)
	}
	c.exec("UPDATE t SET b = randomblob(3500) WHERE id = 9")
	w.captured("a.db", c)
}

// Two transactions of the log may leave the same content. The position tells
// which was saved.
func TestNoForkForRepeatedContent(t *testing.T) {
	w := newWorld(t, inGate)
	w.begun("a.db", "WAL")
	w.mount()
	p, c := w.alone("a.db")
	c.exec("PRAGMA wal_autocheckpoint=0")
	toggle := func(i int) { c.exec("UPDATE t SET b = ? WHERE id = 5", i) }
	for i := range 5 {
		toggle(i % 2)
	}
	w.captured("a.db", c)
	kept := w.sink("a.db").mark()
	for i := range 3 {
		toggle((i + 1) % 2)
	}
	content := c.serialize()
	p.kill()
	w.unmount()
	w.sink("a.db").rewind(kept) // as if the daemon had been killed
	if err := os.Remove(w.restFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	w.mount()
	if err := w.set.save("a.db"); err != nil {
		t.Fatal(err)
	}
	if !w.sink("a.db").holds(content) {
		t.Error("the newest state is not what the log has")
	}
	g := w.sink("a.db").current()
	if len(w.sink("a.db").generations) != 1 || g.mark.Txn.ID != kept.mark.Txn.ID+3 {
		t.Errorf("%d generations, the newest at transaction %d; want one, at %d", len(w.sink("a.db").generations), g.mark.Txn.ID, kept.mark.Txn.ID+3)
	}
}

// Capture that failed begins again with what was committed meanwhile, also in a
// database that is too large to be read while the application waits.
func TestForkAfterFailing(t *testing.T) {
	for name, gate := range map[string]int64{"small": inGate, "large": 100 << 10} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, gate)
			w.begun("a.db", "WAL")
			n := len(w.sink("a.db").generations)
			w.mount()
			c := w.open("a.db", "")
			c.exec("UPDATE t SET b = randomblob(3500) WHERE id = 11")
			w.captured("a.db", c)
			w.sink("a.db").fail(errors.New("no space left"))
			c.exec("UPDATE t SET b = randomblob(3500) WHERE id = 12")
			if err := w.set.save("a.db"); err == nil {
				t.Fatal("the sink does not fail")
			}
			c.exec("UPDATE t SET b = randomblob(3500) WHERE id = 13")
			c.exec("PRAGMA wal_checkpoint(TRUNCATE)")
			c.exec("UPDATE t SET b = randomblob(3500) WHERE id = 14")
			w.sink("a.db").fail(nil)
			w.again("a.db")
			w.captured("a.db", c)
			w.forked("a.db", n+1, 6)
			c.exec("UPDATE t SET b = randomblob(3500) WHERE id = 15")
			w.captured("a.db", c)
		})
	}
}

// again begins the capture again before its time, and waits until it has.
func (w *world) again(name string) {
	w.t.Helper()
	d := w.set.known(name)
	d.mu.Lock()
	d.takeIn()
	im := d.image
	d.mu.Unlock()
	if im != nil {
		<-im.ended
	}
}

// A log that somebody takes away takes commits with it. The next state is what
// SQLite has then.
func TestLogTakenAway(t *testing.T) {
	w := newWorld(t, inGate)
	w.begun("a.db", "WAL")
	w.mount()
	p, c := w.alone("a.db")
	before := c.serialize()
	for i := range 3 {
		c.exec("UPDATE t SET b = randomblob(3500) WHERE id = ?", i+1)
	}
	w.captured("a.db", c)
	p.kill()
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(w.path("a.db" + suffix)); err != nil {
			t.Fatal(err)
		}
	}
	c = w.open("a.db", "")
	if got := c.serialize(); !bytes.Equal(got, before) {
		t.Fatal("the commits are still there: nothing is tested")
	}
	w.captured("a.db", c)
	w.forked("a.db", 2, 8)
	c.exec("UPDATE t SET b = randomblob(3500) WHERE id = 9")
	w.captured("a.db", c)
}
