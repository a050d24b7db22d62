package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// TestCommitsApart tells commits apart by time, by path and by -timestamp: those
// that are 5 ms apart, and those that follow each other as fast as they can; again
// after their segments have become one.
func TestCommitsApart(t *testing.T) { inModes(t, testCommitsApart) }

func testCommitsApart(t *testing.T, m mode) {
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")})
	w.mode = m
	w.mount()
	db := openAt(t, filepath.Join(w.dir, "app.db"))
	synchronous := "NORMAL"
	if m == passed {
		synchronous = "FULL" // the time is that of the fsync
	}
	execute(t, db, "PRAGMA journal_mode=WAL; PRAGMA synchronous="+synchronous+"; CREATE TABLE t(id INTEGER PRIMARY KEY)")
	var done []wal.Time // when row i+1 was committed
	commit := func() {
		execute(t, db, fmt.Sprintf("INSERT INTO t VALUES(%d)", len(done)+1))
		done = append(done, wal.TimeOf(time.Now()))
	}
	const pairs, rushed = 50, 300
	for range pairs {
		commit()
		<-time.After(5 * time.Millisecond)
		commit()
	}
	for range rushed {
		commit()
	}
	for i, at := range done {
		past := openAt(t, "file:"+filepath.Join(w.history, "app.db", at.String(), "app.db")+"?mode=ro")
		wantRows(t, past, at, i+1)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	w.unmount()
	w.restoresApart(done)
	before := len(segmentsOf(w, "app.db"))
	if _, err := w.run("compact", "-grace", "0s", w.store.String()); err != nil {
		t.Fatal(err)
	}
	if after := len(segmentsOf(w, "app.db")); after >= before || after > 2 {
		t.Errorf("%d segments, and %d after they were merged", before, after)
	}
	w.restoresApart(done)
}

// segmentsOf returns the lines that the program lists segments in.
func segmentsOf(w *world, client string) []string {
	w.t.Helper()
	out, err := w.run("wal", "-json", w.url(client))
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// restoresApart restores commits by the times at which they were done.
func (w *world) restoresApart(done []wal.Time) {
	t := w.t
	t.Helper()
	for i := 0; i < len(done); i += 1 + i/10*7 { // pairs, and more rarely those behind
		for j := i; j < min(i+2, len(done)); j++ {
			out := filepath.Join(t.TempDir(), "restored")
			if _, err := w.run("restore", "-o", out, "-timestamp", done[j].String(), w.url("app.db")); err != nil {
				t.Fatal(err)
			}
			wantRows(t, openAt(t, out), done[j], j+1)
		}
	}
}

// openAt opens a database with one connection.
func openAt(t *testing.T, dsn string) *sqlite3.SQLiteConn {
	t.Helper()
	c, err := (&sqlite3.SQLiteDriver{}).Open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*sqlite3.SQLiteConn)
}

func execute(t *testing.T, c *sqlite3.SQLiteConn, q string) {
	t.Helper()
	if _, err := c.Exec(q, nil); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

// wantRows makes sure that a past has so many rows, and closes it.
func wantRows(t *testing.T, past *sqlite3.SQLiteConn, at wal.Time, want int) {
	t.Helper()
	have, err := value(past, "SELECT count(*) FROM t")
	if err != nil || have != int64(want) {
		t.Errorf("at %s: %v rows, %v, want %d", at, have, err, want)
	}
	if err := past.Close(); err != nil {
		t.Error(err)
	}
}
