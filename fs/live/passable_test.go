package live

import (
	"testing"
	"time"
)

// Who opens a database first decides whether it is passed, for all who have it open
// at the same time; and either way what they do is captured.
func TestWhoOpensFirst(t *testing.T) {
	needPassing(t)
	const readOnly, readWrite = "mode=ro", "mode=rw"
	tests := []struct {
		name   string
		before func(w *world) // the database lies there, and nobody has it open
		later  time.Duration  // after that
		opened []string
		passed bool
	}{
		{"nobody wrote to it, read-only", nil, 0, []string{readOnly, readWrite}, false},
		{"nobody wrote to it, read-write", nil, 0, []string{readWrite, readOnly}, true},
		{"written lately, read-only", write200, 0, []string{readOnly, readWrite}, true},
		{"written long ago, read-only", write200, 2 * writtenLately, []string{readOnly, readWrite}, false},
		{"written long ago, with a log, read-only", leaveLog, 2 * writtenLately, []string{readOnly, readWrite}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, inGate)
			w.passed = true
			plain := w.open("a.db", "")
			plain.exec("PRAGMA journal_mode=WAL")
			fill(plain, "t", 200)
			plain.close()
			s := &settable{}
			w.mountAt(s.wall)
			if test.before != nil {
				test.before(w)
			}
			w.awaitUnused("a.db")
			s.pass(test.later)

			var conns []*conn
			for _, mode := range test.opened {
				c := w.open("a.db", mode)
				if n := c.query("SELECT count(*) FROM t"); n != 200 {
					t.Errorf("%s: %d rows, want 200", mode, n)
				}
				conns = append(conns, c)
			}
			w.passes("a.db", test.passed)
			reader, writer := conns[0], conns[1]
			if test.opened[0] == readWrite {
				reader, writer = writer, reader
			}
			for _, sql := range []string{
				"DELETE FROM t WHERE id > 100", "PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)", "UPDATE t SET b = randomblob(3000)",
			} {
				writer.exec(sql)
			}
			if n := reader.query("SELECT count(*) FROM t"); n != 100 {
				t.Errorf("the reader sees %d rows, want 100", n)
			}
			w.captured("a.db", writer)
			for _, c := range conns {
				c.close()
			}

			// As soon as all have closed it, it may be otherwise; and what was cached then
			// is not what is read now.
			w.awaitUnused("a.db")
			writer = w.open("a.db", readWrite)
			writer.exec("DELETE FROM t WHERE id > 50")
			w.passes("a.db", true)
			w.captured("a.db", writer)
			writer.close()
			w.awaitUnused("a.db")
			s.pass(2 * writtenLately)
			reader = w.open("a.db", readOnly)
			if n := reader.query("SELECT count(*) FROM t"); n != 50 {
				t.Errorf("at last there are %d rows, want 50", n)
			}
			w.passes("a.db", false)
			w.captured("a.db", reader)
			if n := len(w.sink("a.db").generations); n != 1 {
				t.Errorf("%d generations, want 1", n)
			}
		})
	}
}

// write200 commits to the rows.
func write200(w *world) {
	c := w.open("a.db", "")
	c.exec("UPDATE t SET b = 'written'")
	c.close()
}

// leaveLog is write200 by a process that is killed.
func leaveLog(w *world) {
	p, c := w.alone("a.db")
	c.exec("UPDATE t SET b = 'written'")
	p.kill()
}

// awaitUnused waits until the kernel has told that a database and what is beside it
// is closed, and go-fuse is through with that.
func (w *world) awaitUnused(name string) {
	w.t.Helper()
	d := w.set.known(name)
	w.await("it is closed", func() bool {
		w.set.mu.Lock()
		used := d.handles > 0
		w.set.mu.Unlock()
		for range w.fs.tree.releasing.Range {
			return false
		}
		return !used
	})
}

// passes fails unless a database is passed, or is not.
func (w *world) passes(name string, want bool) {
	w.t.Helper()
	if n := w.set.known(name).mains.Load(); (n > 0) != want {
		w.t.Errorf("%d handles are passed, and some should be: %v", n, want)
	}
}
