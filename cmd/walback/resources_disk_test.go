package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/generations"
)

// smallDisk makes dir a filesystem of so many bytes, until the test ends. It is
// called before the world is made, so that what is mounted on top goes first.
func smallDisk(t *testing.T, dir string, bytes int64) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", bytes))
	if errors.Is(err, unix.EPERM) {
		t.Skip("only root can mount a small filesystem")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fill makes a file that takes all that is left of a filesystem.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{64 << 10, 512} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling %s: %v", name, err)
		}
	}
	if err := f.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// full reports whether err is what SQLite makes of ENOSPC.
func full(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	return ok && e.Code == sqlite3.ErrFull
}

// TestDiskFull fills the filesystem that has the databases and the spool. An
// application is told what it is told on a plain directory; when there is space
// again, it goes on, and so does its past.
func TestDiskFull(t *testing.T) {
	inModes(t, func(t *testing.T, m mode) {
		for _, journal := range []string{"WAL", "DELETE"} {
			if m == intercepted || journal == "WAL" { // nothing else is passed
				t.Run(journal, func(t *testing.T) { testDiskFull(t, m, journal) })
			}
		}
	})
}

func testDiskFull(t *testing.T, m mode, journal string) {
	root := t.TempDir()
	backing := filepath.Join(root, "backing")
	smallDisk(t, backing, 4<<20)
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(root, "store")}, "-interval", "20ms", "-backing", backing)
	w.mode = m
	w.mount()
	l, err := openLedger(w, "app.db", "PRAGMA journal_mode="+journal, "PRAGMA wal_autocheckpoint=20")
	if err != nil {
		t.Fatal(err)
	}
	l.must(t, 20)
	w.awaitShipped()
	l.gap[0] = len(l.moments)

	filler := filepath.Join(w.dir, "filler")
	fill(t, filler)
	refused := 0
	for range 50 {
		err := l.commit("INSERT INTO t(v) VALUES(randomblob(30000))")
		if full(err) {
			refused++
		} else if err != nil {
			t.Fatalf("%v, want that the disk is full", err)
		}
	}
	if refused < 20 {
		t.Errorf("only %d of 50 commits were refused", refused)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.recovers(t, w)
	w.unmount()
	wantIntact(t, filepath.Join(backing, "app.db"))
	l.checkBesidesGap(w, w.serveHistory())
	resumed, begun := w.lineages()
	t.Logf("%d of 50 commits were refused; %d generations were begun, and %d continued", refused, begun, resumed)
}

// recovers commits until that is captured again: the gap ends there. Where writes
// pass the daemon nobody can make them wait for the moment until the kernel has
// told that a removed file is not used any more, and its space is free.
func (l *ledger) recovers(t *testing.T, w *world) {
	t.Helper()
	began := time.Now()
	for err := l.commit("INSERT INTO t(v) VALUES(1)"); err != nil; err = l.commit("INSERT INTO t(v) VALUES(1)") {
		if !full(err) || w.mode == intercepted || time.Since(began) > 10*time.Second {
			t.Fatalf("%v, %v after there was space again", err, time.Since(began))
		}
	}
	for captureOf(w, l.path) != "following" {
		l.must(t, 1)
	}
	w.awaitShipped()
	l.gap[1] = len(l.moments)
	l.must(t, 20)
	l.close(t)
}

// TestSpoolDiskFull fills the filesystem of the spool alone, while the store is
// down: the application does not notice anything. What could be kept is shipped
// though there is no space for a file to put it together in.
func TestSpoolDiskFull(t *testing.T) {
	for _, c := range []struct {
		name      string
		disk      int64
		row, rows int
	}{
		{"many small pieces", 1 << 20, 10_000, 120},
		{"some large pieces", 4 << 20, 250_000, 25},
	} {
		t.Run(c.name, func(t *testing.T) {
			inModes(t, func(t *testing.T, m mode) { testSpoolDiskFull(t, m, c.disk, c.row, c.rows) })
		})
	}
}

func testSpoolDiskFull(t *testing.T, m mode, disk int64, row, rows int) {
	store, s := stalling(t)
	root := t.TempDir()
	backing := filepath.Join(root, "backing")
	smallDisk(t, filepath.Join(backing, ".walback"), disk)
	w := newWorld(t, store, "-interval", "20ms", "-backing", backing)
	w.mode = m
	w.mount()
	l, err := openLedger(w, "app.db", "PRAGMA wal_autocheckpoint=20")
	if err != nil {
		t.Fatal(err)
	}
	l.must(t, 20)
	w.awaitShipped()
	l.gap[0] = len(l.moments)
	s.begin(false)
	for range rows {
		if err := l.commit(fmt.Sprintf("INSERT INTO t(v) VALUES(randomblob(%d))", row)); err != nil {
			t.Fatal(err)
		}
	}
	// It may just be trying again.
	w.await("broken by a full spool", func(d databaseStatus) bool { return d.Capture == "broken" })
	if err := l.commit("DELETE FROM t WHERE id > 20"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.conn.Exec("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)", nil); err != nil {
		t.Fatal(err)
	}
	s.end()
	l.recovers(t, w)
	if !strings.Contains(w.daemon.log(), "no space left on device") {
		t.Error("nobody said that there was no space left")
	}
	w.unmount()
	l.checkBesidesGap(w, w.serveHistory())
}

// TestCacheDiskFull: a history mount whose cache directory is full, or has been
// removed, reads from the store.
func TestCacheDiskFull(t *testing.T) {
	root := t.TempDir()
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(root, "store")})
	w.mount()
	l, err := openLedger(w, "app.db")
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		if err := l.commit("INSERT INTO t(v) VALUES(randomblob(400000))"); err != nil {
			t.Fatal(err)
		}
	}
	l.close(t)
	w.unmount()
	r := record{w, l.chronicle, w.log("app.db")}.checkLog()

	for name, spoil := range map[string]func(t *testing.T, cache string){
		"small": func(t *testing.T, cache string) { smallDisk(t, cache, 256<<10) },
		"none":  func(t *testing.T, cache string) { smallDisk(t, cache, 4096) },
		"filled": func(t *testing.T, cache string) {
			smallDisk(t, cache, 1<<20)
			fill(t, filepath.Join(cache, "filler"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache := filepath.Join(t.TempDir(), "cache")
			spoil(t, cache)
			r.checkTimes(w.serveHistoryWith(t, cache))
		})
	}
	t.Run("removed", func(t *testing.T) {
		cache := filepath.Join(t.TempDir(), "cache")
		past := w.serveHistoryWith(t, cache)
		r.check(past, "@"+r.rows[1].Index.String(), r.moments[1].content)
		if err := os.RemoveAll(cache); err != nil {
			t.Fatal(err)
		}
		r.checkTimes(past)
	})
}
