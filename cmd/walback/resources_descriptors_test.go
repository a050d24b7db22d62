package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/generations"
)

// limitFiles sets how many descriptors the daemon may have.
func (w *world) limitFiles(n uint64) {
	w.t.Helper()
	var limit unix.Rlimit
	pid := w.daemon.cmd.Process.Pid
	err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit)
	if err == nil {
		limit.Cur = n // not Max: who may not raise that could not take it back
		err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// files returns how many descriptors the daemon has.
func (w *world) files() int {
	w.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.daemon.cmd.Process.Pid))
	if err != nil {
		w.t.Fatal(err)
	}
	return len(open)
}

// TestManyDatabasesFewDescriptors opens database after database through a daemon
// with few descriptors. That ends somewhere; what is open by then goes on, and
// is captured and shipped.
func TestManyDatabasesFewDescriptors(t *testing.T) { inModes(t, manyDatabasesFewDescriptors) }

func manyDatabasesFewDescriptors(t *testing.T, m mode) {
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")}, "-interval", "50ms")
	const limit = 150
	for i := 1; i < limit/4; i += 2 { // every other one is there before
		l, err := openLedger(w, fmt.Sprintf("%d.db", i))
		if err != nil {
			t.Fatal(err)
		}
		l.close(t)
	}
	w.mode = m
	w.mount()
	existing, err := w.status()
	if err != nil {
		t.Fatal(err)
	}
	w.limitFiles(limit)
	journalled, err := openLedger(w, "journalled.db", "PRAGMA journal_mode=DELETE")
	if err != nil {
		t.Fatal(err)
	}
	all := []*ledger{journalled}
	for {
		l, err := openLedger(w, fmt.Sprintf("%d.db", len(all)))
		if err != nil {
			t.Logf("%d databases are open, with %d descriptors of %d, and the next: %v", len(all), w.files(), limit, err)
			break
		}
		if all = append(all, l); len(all) > limit {
			t.Fatalf("%d databases are open with %d descriptors", len(all), limit)
		}
	}
	if len(all) < limit/16 {
		t.Errorf("only %d databases could be opened with %d descriptors", len(all), limit)
	}
	for range 5 {
		for _, l := range all {
			l.must(t, 1)
		}
	}
	s, err := w.status()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range s.Databases {
		if d.Error != "" || d.Capture == "broken" {
			t.Errorf("%s is %s: %s", d.Path, d.Capture, d.Error)
		}
	}
	if said := strings.Count(w.daemon.log(), "too many files are open"); said != 1 {
		t.Errorf("the daemon says %d times that too many files are open", said)
	}
	if most := w.files(); most >= limit {
		t.Errorf("%d descriptors of %d are open", most, limit)
	}
	// Others may be opened when some are closed.
	for _, l := range all[len(all)-10:] {
		l.close(t)
	}
	for i := range 5 {
		l, err := openLedger(w, fmt.Sprintf("late%d.db", i))
		if err != nil {
			t.Fatal(err)
		}
		l.must(t, 3)
		all = append(all, l)
	}
	for i, l := range all {
		if i < len(all)-15 || i >= len(all)-5 {
			l.close(t)
		}
	}
	w.unmount()
	most := len(all) + len(existing.Databases)
	if resumed, begun := w.lineages(); begun > most || resumed != 0 {
		t.Errorf("%d generations were begun, and %d continued, of %d databases at most", begun, resumed, most)
	}
	past := w.serveHistory()
	for _, l := range all {
		record{w, l.chronicle, w.log(l.client)}.checkLog().checkTimes(past)
	}
}

// TestNoDescriptorsLeft takes every descriptor from the daemon. What is committed
// then may be missing in the past; applications do not notice, what was recorded
// before stays right, and once there are descriptors everything is recorded again.
func TestNoDescriptorsLeft(t *testing.T) { inModes(t, testNoDescriptorsLeft) }

func testNoDescriptorsLeft(t *testing.T, m mode) {
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")}, "-interval", "20ms")
	w.mode = m
	w.mount()
	var all []*ledger
	for i := range 3 {
		l, err := openLedger(w, fmt.Sprintf("%d.db", i), "PRAGMA wal_autocheckpoint=20")
		if err != nil {
			t.Fatal(err)
		}
		l.must(t, 10)
		all = append(all, l)
	}
	w.awaitShipped()
	before := len(all[0].moments)
	w.limitFiles(3)
	for _, l := range all {
		l.must(t, 30)
	}
	w.limitFiles(1024)
	for _, l := range all {
		for captureOf(w, l.path) != "following" {
			l.must(t, 1)
		}
		l.must(t, 1)
		missing := len(l.moments)
		l.must(t, 20)
		l.close(t)
		l.gap = [2]int{before, missing}
	}
	w.unmount()
	past := w.serveHistory()
	for _, l := range all {
		l.checkBesidesGap(w, past)
	}
}

// TestPiecesFewDescriptors: what a store that was down has left waiting in many
// files is shipped by a daemon that has not as many descriptors.
func TestPiecesFewDescriptors(t *testing.T) { inModes(t, testPiecesFewDescriptors) }

func testPiecesFewDescriptors(t *testing.T, m mode) {
	store, s := stalling(t)
	w := newWorld(t, store, "-interval", "50ms")
	w.mode = m
	w.mount()
	var all []*ledger
	for i := range 2 {
		l, err := openLedger(w, fmt.Sprintf("%d.db", i))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	w.awaitShipped()
	s.begin(false)
	const pieces = 40
	for range pieces {
		for _, l := range all {
			l.must(t, 1)
			if _, err := l.conn.Exec("PRAGMA wal_checkpoint(TRUNCATE)", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.limitFiles(uint64(w.files() + pieces/2))
	s.end()
	w.awaitShipped()
	for _, l := range all {
		l.must(t, 5)
		l.close(t)
	}
	w.unmount()
	if resumed, begun := w.lineages(); begun != len(all) || resumed != 0 {
		t.Errorf("%d generations were begun, and %d continued, of %d databases", begun, resumed, len(all))
	}
	past := w.serveHistory()
	for _, l := range all {
		record{w, l.chronicle, w.log(l.client)}.checkLog().checkTimes(past)
	}
}
