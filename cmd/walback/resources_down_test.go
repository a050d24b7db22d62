package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/wal"
)

// refuse makes the store refuse every request at once, as a server does that is
// not there, until allow is called.
func (s *stall) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over, s.silent = make(chan struct{}), false
	close(s.over)
}

func (s *stall) allow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = nil
}

// TestStoreDownForLong takes the store away until more is committed than may wait
// for it. The application does not notice. Afterwards the past lacks what did not
// fit and nothing else, and has begun one new generation, which continues the old.
func TestStoreDownForLong(t *testing.T) { inModes(t, testStoreDownForLong) }

func testStoreDownForLong(t *testing.T, m mode) {
	store, s := stalling(t)
	w := newWorld(t, store, "-interval", "50ms", "-spool-limit", "1MiB")
	w.mode = m
	w.mount()
	busy, err := openLedger(w, "busy.db", "PRAGMA wal_autocheckpoint=50")
	if err != nil {
		t.Fatal(err)
	}
	if err := busy.commit("CREATE TABLE still AS SELECT randomblob(1000000)"); err != nil {
		t.Fatal(err)
	}

	quiet, err := openLedger(w, "quiet.db", "PRAGMA journal_mode=DELETE")
	if err != nil {
		t.Fatal(err)
	}
	quiet.must(t, 5)
	up := busy.timed(t, 300)
	w.awaitShipped()
	before := len(busy.moments)

	s.refuse()
	quiet.must(t, 5)
	down := busy.timed(t, 2000)
	t.Logf("a commit took %s, at most %s; and while the store was down %s, at most %s", median(up), slices.Max(up), median(down), slices.Max(down))
	if median(down) > 5*median(up)+time.Millisecond {
		t.Errorf("while the store is down a commit takes %s instead of %s", median(down), median(up))
	}
	w.wantFull(t, "busy.db")

	s.allow()
	for captureOf(w, busy.path) != "following" {
		busy.must(t, 1)
	}
	w.awaitShipped()
	busy.must(t, 50)
	quiet.must(t, 5)
	busy.close(t)
	quiet.close(t)
	if said := strings.Count(w.daemon.log(), `msg="the spool is full`); said != 1 {
		t.Errorf("the daemon says %d times that the spool is full", said)
	}
	w.unmount()

	past := w.serveHistory()
	record{w, quiet.chronicle, w.log(quiet.client)}.checkLog().checkTimes(past)
	busy.gap = busy.oneGap(t, w.log(busy.client))
	t.Logf("of %d commits since the store went down, the %d behind the first %d are missing",
		len(busy.moments)-before, busy.gap[1]-busy.gap[0], busy.gap[0]-before)
	if busy.gap[0] < before+50 {
		t.Errorf("only %d commits were kept in a spool of 1 MiB", busy.gap[0]-before)
	}
	busy.checkBesidesGap(w, past)
	if all := w.generationsOf(busy.client); len(all) != 2 || all[1].Parent == "" {
		t.Errorf("generations: %+v, want two, the second of them a fork", all)
	}
	if all := w.generationsOf(quiet.client); len(all) != 1 {
		t.Errorf("generations of a database that did not fill the spool: %+v, want one", all)
	}
}

// timed commits n rows and returns how long each took. It looks at what few of
// them led to.
func (l *ledger) timed(t *testing.T, n int) []time.Duration {
	t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		l.longest, l.blind = 0, i%20 > 0
		l.must(t, 1)
		took[i] = l.longest
	}
	l.blind = false
	return took
}

func median(d []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(d))[len(d)/2]
}

// wantFull makes sure that people are told that the capture of a database has
// ended because the spool is full.
func (w *world) wantFull(t *testing.T, path string) {
	t.Helper()
	out, err := w.run("status", w.dir)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, path) && strings.Contains(line, "broken") && strings.Contains(line, "spool") {
			return
		}
	}
	t.Errorf("walback status does not say that the spool is full:\n%s", out)
}

// oneGap returns the first commit that is no transaction, and the first behind
// that which is one, and from there on all must be.
func (l *ledger) oneGap(t *testing.T, rows []logRow) (gap [2]int) {
	t.Helper()
	found := make([]bool, len(l.moments))
	for i, m := range l.moments {
		found[i] = slices.ContainsFunc(rows, func(r logRow) bool { return wal.Time(r.Time) >= m.begun && wal.Time(r.Time) <= m.ended })
	}
	gap[0] = slices.Index(found, false)
	if gap[0] < 0 {
		t.Fatal("no commit is missing")
	}
	gap[1] = gap[0] + slices.Index(found[gap[0]:], true)
	if i := slices.Index(found[gap[1]:], false); i >= 0 {
		t.Errorf("commit %d is missing, and %d behind the gap is not", gap[1]+i, gap[1])
	}
	return gap
}

// generationsOf returns what walback generations lists.
func (w *world) generationsOf(client string) (rows []generationRow) {
	w.t.Helper()
	out, err := w.run("generations", "-json", w.url(client))
	if err != nil {
		w.t.Fatal(err)
	}
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var row generationRow
		if err := dec.Decode(&row); err != nil {
			w.t.Fatal(fmt.Errorf("walback generations: %w", err))
		}
		rows = append(rows, row)
	}
	return rows
}
