package live

import (
	"slices"
	"testing"
	"time"

	"github.com/walback/walback/wal"
)

// tracked returns how many pages of the log the database has in mind, and false
// when it tracks none.
func (w *world) tracked(name string) (n int, ok bool) {
	d := w.set.known(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epochs == nil {
		return 0, false
	}
	return len(d.epochs.current) + len(d.epochs.ended), true
}

// The pages of a log that goes through the daemon are not tracked: nobody would
// ever forget them.
func TestPagesOfLogThroughDaemon(t *testing.T) {
	w := newWorld(t, inGate)
	w.passed = false
	w.begun("a.db", "WAL")
	w.mount()
	c := w.open("a.db", "")
	for range 3 {
		c.exec("UPDATE t SET b = randomblob(3500)")
		c.exec("PRAGMA wal_checkpoint(RESTART)")
	}
	w.captured("a.db", c)
	if n, ok := w.tracked("a.db"); ok {
		t.Errorf("%d pages are tracked", n)
	}
}

// As soon as nobody has a log open that was passed, nothing is kept of its pages.
func TestPagesOfPassedLogAreForgotten(t *testing.T) {
	needPassing(t)
	w := newWorld(t, inGate)
	w.passed = true
	w.begun("a.db", "WAL")
	w.mount()
	c := w.open("a.db", "")
	c.exec("UPDATE t SET b = randomblob(3500) WHERE id < 50")
	w.captured("a.db", c)
	if n, ok := w.tracked("a.db"); !ok || n < 49 || n > 60 {
		t.Errorf("%d pages are tracked, want some 50", n)
	}
	c.close()
	w.await("the pages are forgotten", func() bool {
		_, ok := w.tracked("a.db")
		return !ok
	})
}

// What is there of a log when it is first looked at is compared like the rest of
// it, once the log has been restarted.
func TestPagesOfLogLeftBehindAreTracked(t *testing.T) {
	needPassing(t)
	w := newWorld(t, inGate)
	w.passed = true
	w.begun("a.db", "WAL")
	before := startSQLite(t)
	w.mount()
	openSQLite(t, before.Client, "file:"+w.path("a.db")).exec("UPDATE t SET b = zeroblob(3500) WHERE id < 50")
	before.kill()
	w.await("the pages are forgotten", func() bool {
		_, ok := w.tracked("a.db")
		return !ok
	})
	c := w.open("a.db", "")
	c.exec("UPDATE t SET b = zeroblob(3500) WHERE id = 150")
	w.captured("a.db", c)
	if n, _ := w.tracked("a.db"); n < 50 {
		t.Errorf("%d pages are tracked, want those that were left too", n)
	}
}

// The pages of an epoch that has ended are compared with the file at the latest
// when the log ends, or nobody has it open any more, though it is not their turn yet.
func TestEndedEpochIsCompared(t *testing.T) {
	needPassing(t)
	for _, end := range []string{"the log is cut", "its process is killed"} {
		t.Run(end, func(t *testing.T) {
			w := newWorld(t, inGate)
			w.passed = true
			w.begun("a.db", "WAL")
			app := startSQLite(t)
			w.mount()
			c := openSQLite(t, app.Client, "file:"+w.path("a.db"))
			c.exec("UPDATE t SET b = zeroblob(3500) WHERE id = 5")
			c.exec("PRAGMA wal_checkpoint(RESTART)")
			c.exec("UPDATE t SET b = zeroblob(3500) WHERE id = 150")
			w.captured("a.db", c)
			w.damage("a.db", int64(w.notYetCompared("a.db")))
			cut := end == "the log is cut"
			if cut {
				c.exec("PRAGMA wal_checkpoint(TRUNCATE)")
			} else {
				app.kill()
			}
			w.await("a fork", func() bool {
				r := w.sink("a.db")
				r.mu.Lock()
				defer r.mu.Unlock()
				return len(r.generations) == 2
			})
			if cut {
				app.kill() // nothing of the mount must be open
			}
		})
	}
}

// notYetCompared returns the one page that is to be compared with the file and is
// not in the log any more. It is not compared soon.
func (w *world) notYetCompared(name string) wal.Pgno {
	w.t.Helper()
	d := w.set.known(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	pages := d.epochs.pending()
	if len(pages) != 1 || slices.Contains(d.logPages(), pages[0]) {
		w.t.Fatalf("pages %d are to be compared, and the log has %d", pages, d.logPages())
	}
	d.epochs.last = time.Now().Add(time.Hour)
	return pages[0]
}
