package main

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/storetest"
	"github.com/walback/walback/wal"
)

var spillSize = flag.Int64("spill.size", 64, "size in MiB of the transaction of TestTransactionLargerThanMemory")

// What a walback may take in memory for a transaction of so many bytes. Of it, it
// keeps where the pages are and what their checksums are (a twentieth is 200 bytes
// a page), and not the pages; the rest is for making an image, and for reading.
func captureMemory(size int64) int64 { return 160<<20 + size/20 }
func historyMemory(size int64) int64 { return captureMemory(size) + 96<<20 }

// restoreMemory is what a restore may take, whatever the size.
const restoreMemory = 256 << 20

// buildPlain builds the program as people have it: under the race detector it
// takes several times the memory.
func buildPlain(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "walback")
	cmd := exec.Command("go", "build", "-trimpath", "-o", program, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return program
}

// peak returns the most memory that a process has had, in bytes, or 0 when it has
// ended.
func peak(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// raced reports whether this program, which the daemons of most tests are, runs
// under the race detector.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// TestTransactionLargerThanMemory commits a transaction that is larger than what
// walback may take, with a journal and without: it is captured, shipped in parts,
// restored, and read through the history mounts of the daemon and of another one.
func TestTransactionLargerThanMemory(t *testing.T) {
	plain := buildPlain(t)
	t.Run("WAL", func(t *testing.T) {
		inModes(t, func(t *testing.T, m mode) {
			testLargeTransaction(t, m, plain, storetest.Versitygw(t).URL("databases"), "WAL")
		})
	})
	t.Run("DELETE", func(t *testing.T) { // which is never passed
		testLargeTransaction(t, intercepted, plain, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")}, "DELETE")
	})
}

func testLargeTransaction(t *testing.T, m mode, plain string, store generations.URL, journal string) {
	size := *spillSize << 20
	w := newWorld(t, store, "-interval", "100ms")
	w.mode = m
	w.wrap = func(cmd *exec.Cmd) { cmd.Path = plain }
	w.mount()
	l, err := openLedger(w, "app.db", "PRAGMA journal_mode="+journal, "PRAGMA cache_size=-2000")
	if err != nil {
		t.Fatal(err)
	}
	l.must(t, 1)
	w.awaitShipped()
	before := len(l.moments) - 1
	began := time.Now()
	rows := l.spill(t, size)
	t.Logf("%d MiB in one transaction took %s; daemon: %s", size>>20, time.Since(began), memory(t, w))
	w.awaitShipped()
	t.Logf("it is shipped after %s; daemon: %s", time.Since(began), memory(t, w))
	huge := w.log(l.client)
	l.must(t, 1)
	w.awaitShipped()
	l.close(t)

	r := record{w, l.chronicle, w.log(l.client)}.checkLog()
	views := func(past string) {
		t.Helper()
		r.check(past, r.moments[before].ended.String(), r.moments[before].content)
		wantRowsIntact(t, filepath.Join(past, l.client, "@"+huge[len(huge)-1].Index.String(), l.file), rows)
		if sumOf(t, filepath.Join(past, l.client, "latest", l.file)) != sumOf(t, filepath.Join(w.dir, l.path)) {
			t.Error("the latest view is not the database")
		}
	}
	daemon := w.daemon.cmd.Process.Pid
	wantPeak(t, "capturing and shipping", peak(daemon), captureMemory(size))
	views(w.history)
	wantPeak(t, "reading through the daemon's mount", peak(daemon), historyMemory(size))
	w.unmount()
	views(w.serveHistory())

	restored := filepath.Join(t.TempDir(), "restored")
	wantPeak(t, "restoring", runPeak(t, plain, "restore", "-quiet", "-o", restored, w.url(l.client)), restoreMemory)
	if out, err := exec.Command("cmp", restored, filepath.Join(w.dir, l.path)).CombinedOutput(); err != nil {
		t.Errorf("the restored file is not the database: %v: %s", err, out)
	}
}

func wantPeak(t *testing.T, doing string, took, most int64) {
	t.Helper()
	t.Logf("%s took %d MiB", doing, took>>20)
	if took == 0 || took > most {
		t.Errorf("%s took %d MiB, want at most %d", doing, took>>20, most>>20)
	}
}

// runPeak runs a program and returns the most memory that it had. (The kernel
// does not tell at its end: what it counts begins with the fork of this process.)
func runPeak(t *testing.T, program string, args ...string) (most int64) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%s %s: %v\n%s", program, args[0], err, &out)
			}
			return most
		case <-time.After(5 * time.Millisecond):
			most = max(most, peak(cmd.Process.Pid))
		}
	}
}

// spill commits a transaction that writes so many bytes, much of it more than
// once, and takes some of it back. It returns how many rows there are then.
func (l *ledger) spill(t *testing.T, size int64) int64 {
	t.Helper()
	const row = 4000
	rows := size / row
	insert := func(n int64) string {
		return fmt.Sprintf("WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<%d) INSERT INTO t(v) SELECT randomblob(%d) FROM n", n, row-100)
	}
	begun := time.Now()
	for _, q := range []string{
		"BEGIN", insert(rows * 9 / 10),
		"SAVEPOINT s", insert(rows / 10), "UPDATE t SET v=zeroblob(length(v)) WHERE id%3=0", "ROLLBACK TO s",
		"UPDATE t SET v=randomblob(length(v)) WHERE id%10=0",
		"SAVEPOINT s2", insert(rows / 10), "RELEASE s2",
	} {
		if _, err := l.conn.Exec(q, nil); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	count, err := value(l.conn, "SELECT count(*) FROM t")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.conn.Exec("COMMIT", nil); err != nil {
		t.Fatal(err)
	}
	ended := time.Now()
	l.moments = append(l.moments, moment{begun: wal.TimeOf(begun), ended: wal.TimeOf(ended)})
	return count.(int64)
}

// wantRowsIntact makes sure that a database is intact and has so many rows.
func wantRowsIntact(t *testing.T, name string, rows int64) {
	t.Helper()
	db := openOne(t, "file:"+name+"?mode=ro")
	defer db.Close()
	var got int64
	var intact string
	err := db.QueryRow("SELECT count(*), (SELECT quick_check FROM pragma_quick_check) FROM t").Scan(&got, &intact)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if got != rows || intact != "ok" {
		t.Errorf("%s has %d rows, want %d; it is %s", name, got, rows, intact)
	}
}

// sumOf returns the digest of a database file, whether or not it says that it has
// a log.
func sumOf(t *testing.T, name string) digest {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	header := make([]byte, wal.DatabaseHeaderSize)
	if _, err := io.ReadFull(f, header); err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	h.Write(writable(header))
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return digest(h.Sum(nil))
}
