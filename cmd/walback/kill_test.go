package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// sufferer is an application that goes on while the daemon is killed again and
// again, and what it has told.
type sufferer struct {
	t *testing.T
	*chronicle
	args    []string
	cmd     *exec.Cmd
	stdin   io.Closer
	stderr  *bytes.Buffer
	reports chan report // closed when the process has ended

	pending moment // the commit that was begun last
	row     int    // its row
	// late: the daemon need not have seen the last moment by its end.
	late   bool
	losses []string
	deaths int // of the process itself
}

// suffer starts the application on the database at path, which has no rows yet.
func suffer(w *world, path string, seed uint64) *sufferer {
	w.t.Helper()
	s := &sufferer{
		t: w.t, chronicle: newChronicle(path),
		args: []string{filepath.Join(w.dir, path), strconv.FormatUint(seed, 10), w.looks()},
	}
	s.start()
	w.t.Cleanup(func() {
		if s.cmd != nil {
			s.cmd.Process.Kill()
			for range s.reports {
			}
		}
	})
	return s
}

func (s *sufferer) start() {
	s.t.Helper()
	s.cmd = exec.Command("application", s.args...)
	s.stderr = new(bytes.Buffer)
	s.cmd.Stderr = s.stderr
	in, err := s.cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.stdin, s.reports = in, make(chan report)
	go func() {
		defer close(s.reports)
		for dec := json.NewDecoder(out); ; {
			var r report
			if dec.Decode(&r) != nil {
				return // the process has ended, maybe within a report
			}
			s.reports <- r
		}
	}()
}

// next waits for a report and takes note of it. A process that touches what the
// daemon's death has left of a mapped file is ended by the kernel; another one
// takes its place.
func (s *sufferer) next() report {
	s.t.Helper()
	select {
	case r, ok := <-s.reports:
		if !ok {
			s.again()
			return report{What: lost}
		}
		s.note(r)
		return r
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the application has nothing to tell; it lost %q", s.losses)
		panic("unreachable")
	}
}

// again starts the application after its death.
func (s *sufferer) again() {
	s.t.Helper()
	err := s.cmd.Wait()
	if err == nil || !strings.Contains(s.stderr.String(), "SIGBUS") {
		s.t.Fatalf("the application ended: %v\n%s", err, s.stderr)
	}
	s.deaths++
	s.losses = append(s.losses, err.Error())
	s.start()
}

// until waits for a report of a kind.
func (s *sufferer) until(what string) report {
	s.t.Helper()
	for {
		if r := s.next(); r.What == what {
			return r
		}
	}
}

// note enters what the application tells into the chronicle, and makes sure that
// nothing it was promised is gone.
func (s *sufferer) note(r report) {
	s.t.Helper()
	switch r.What {
	case committing:
		s.row, s.pending = r.Row, moment{begun: r.Time}
	case committed:
		s.pending.ended = r.Time
		s.moments = append(s.moments, s.pending)
		s.late = s.args[2] != ""
	case looked:
		s.seenBy(r.Time)
	case seen:
		s.moments[len(s.moments)-1].content = r.Content
	case lost:
		s.losses = append(s.losses, r.Text)
	case opened:
		s.reopened(r)
	}
}

// seenBy takes note of when the daemon has seen every commit.
func (s *sufferer) seenBy(at wal.Time) {
	if s.late {
		s.moments[len(s.moments)-1].ended, s.late = at, false
	}
}

// reopened compares what is there after a loss with what was there before. A
// commit that was under way may have become one or not.
func (s *sufferer) reopened(r report) {
	s.t.Helper()
	n := len(s.moments)
	s.seenBy(r.Time)
	if r.Row == n+1 && s.row == r.Row {
		s.pending.ended, s.pending.content = r.Time, r.Content
		s.moments = append(s.moments, s.pending)
		return
	}
	if r.Row != n {
		s.t.Fatalf("the database has %d rows' commits, and %d were made (up to %d begun)", r.Row, n, s.row)
	}
	if n == 0 {
		return
	}
	m := &s.moments[n-1]
	if m.content == (digest{}) {
		m.content = r.Content // it was killed before it could see
	}
	if m.content != r.Content {
		s.t.Fatalf("the content after commit %d is another one than before the daemon was killed", n)
	}
}

// end lets the application finish.
func (s *sufferer) end() {
	s.t.Helper()
	if err := s.stdin.Close(); err != nil {
		s.t.Error(err)
	}
	for r := range s.reports {
		s.note(r)
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("the application ended: %v\n%s", err, s.stderr)
	}
	s.cmd = nil
}

// killSometime kills the daemon a random moment after a random number of commits.
func (s *sufferer) killSometime(w *world, random *rand.Rand) {
	s.t.Helper()
	for range random.IntN(20) {
		s.until(committed)
	}
	then := time.After(time.Duration(random.IntN(3000)) * time.Microsecond)
	for {
		select {
		case r, ok := <-s.reports:
			if !ok {
				s.t.Fatal("the application died for no reason")
			}
			s.note(r)
		case <-then:
			w.kill()
			return
		}
	}
}

// remount starts the daemon again, which sometimes is killed while it starts.
func remount(w *world, random *rand.Rand) (kills int) {
	w.t.Helper()
	for random.IntN(5) == 0 {
		d := w.launch()
		select {
		case <-d.ready:
		case <-d.exited:
			w.t.Fatalf("walback mount: %v\n%s", d.err, d.log())
		case <-time.After(time.Duration(random.IntN(300)) * time.Millisecond):
		}
		w.kill()
		kills++
	}
	w.mount()
	return kills
}

// TestKilledUnderLoad kills the daemon at random points while an application
// works. What the application was told to be committed is in the database and in
// history, each commit at the time at which it was made.
func TestKilledUnderLoad(t *testing.T) {
	everywhere(t, func(t *testing.T, store generations.URL, m mode) {
		seed, kills := newSeed(t), 13
		if testing.Short() {
			kills = 2
		}
		random := rand.New(rand.NewPCG(seed, 0))
		w := newWorld(t, store, "-interval", "100ms")
		w.mode = m
		w.mount()
		s := suffer(w, "app.db", seed)
		s.until(opened)
		made := 0
		for made < kills {
			s.killSometime(w, random)
			made += 1 + remount(w, random)
			s.until(opened)
			lookBack(w, s, random)
		}
		s.end()
		if len(s.losses) > made {
			t.Errorf("%d losses at %d kills: %q", len(s.losses), made, s.losses)
		}
		w.unmount()
		resumed, begun := w.lineages()
		t.Logf("%d kills, %d commits; a generation was continued %d times, and begun %d times; the kernel ended the application %d times",
			made, len(s.moments), resumed, begun, s.deaths)
		wholePast(w, s)
	})
}

// lookBack looks at the last commits, and at some before.
func lookBack(w *world, s *sufferer, random *rand.Rand) {
	w.t.Helper()
	r := record{world: w, chronicle: s.chronicle}
	n := len(s.moments)
	for i := max(0, n-3); i < n; i++ {
		r.check(w.history, s.moments[i].ended.String(), s.moments[i].content)
	}
	for range min(n, 2) {
		m := pick(random, s.moments...)
		r.check(w.history, m.ended.String(), m.content)
	}
}

// wantIntact makes sure that a database is.
func wantIntact(t *testing.T, file string) {
	t.Helper()
	db := openAt(t, file)
	if intact, err := value(db, "PRAGMA integrity_check"); err != nil || intact != "ok" {
		t.Errorf("integrity_check: %v, %v", intact, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// wholePast makes sure that what is unmounted is intact, and that the store alone
// has every commit.
func wholePast(w *world, s *sufferer) {
	w.t.Helper()
	wantIntact(w.t, filepath.Join(w.dir, s.path))
	r := record{w, s.chronicle, w.log(s.client)}.checkLog()
	elsewhere := w.serveHistory()
	r.checkTimes(elsewhere)
	r.checkTransactions(elsewhere)
	r.checkRestores()
}
