package main

import (
	"bytes"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// contentOfBytes returns what is in a database that is read from a view or a
// file, which must be intact.
func contentOfBytes(b []byte) (st state, err error) {
	if len(b) == 0 {
		return state{Content: empty}, nil
	}
	raw := sha256.Sum256(b)
	c, err := openDatabase(":memory:", "")
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	b = readable(slices.Clone(b))
	if err := c.Deserialize(b, "main"); err != nil {
		return st, err
	}
	intact, err := value(c, "PRAGMA integrity_check")
	if err != nil || intact != "ok" {
		return st, fmt.Errorf("integrity_check: %v, %w", intact, err)
	}
	st, err = contentOf(c, "main")
	st.Raw, st.Readable = raw, sha256.Sum256(b)
	return st, err
}

// check makes sure that a view is what was promised.
func (s *story) check(history string, d *subject, i instant) {
	s.t.Helper()
	if i.transaction {
		return
	}
	name := filepath.Join(history, d.client, i.at.String(), d.file)
	b, err := os.ReadFile(name)
	var got state
	if err == nil {
		got, err = contentOfBytes(b)
	}
	if err != nil {
		s.t.Errorf("%s at %s (%s): %v", d.path, i.at, i.what, err)
		return
	}
	s.compareStates(d, i, got, got.Readable == i.Readable)
}

// compareStates reports a content that is not as promised. same tells of bytes.
func (s *story) compareStates(d *subject, i instant, got state, same bool) {
	s.t.Helper()
	switch {
	case got.Content != i.Content && !slices.Contains(i.or, got.Content):
		s.t.Errorf("%s at %s (%s) is %s (%x), want %s (%x)", d.path, i.at, i.what,
			s.known[got.Content], got.Content[:3], s.known[i.Content], i.Content[:3])
	case got.Content == i.Content && i.Readable != digest{} && !same:
		s.t.Errorf("%s at %s (%s) has the right content in other bytes than SQLite", d.path, i.at, i.what)
	}
}

// worth says whether to look at one more of a database's states; at a few of a
// large one's only, which takes long.
func (s *story) worth(d *subject) bool { return !d.large || s.random.IntN(6) == 0 }

// lookBack looks at some of what was promised.
func (s *story) lookBack() {
	s.t.Helper()
	for _, d := range s.subjects {
		for range min(len(d.instants), 3) {
			if s.worth(d) {
				s.check(s.history, d, pick(s.random, d.instants...))
			}
		}
	}
}

// awaitCaptured waits until the newest state of a database is captured, which is a while after it was written when no journal tells of it.
func (s *story) awaitCaptured(d *subject, i instant) {
	s.t.Helper()
	name := filepath.Join(s.history, d.client, "latest", d.file)
	var last error
	for deadline := time.After(20 * time.Second); ; {
		b, err := os.ReadFile(name)
		var got state
		if err == nil {
			got, err = contentOfBytes(b)
		}
		if err == nil && (got.Content == i.Content || slices.Contains(i.or, got.Content)) && (i.Readable == digest{} || i.Readable == got.Readable) {
			return
		}
		last = err
		select {
		case <-deadline:
			s.t.Fatalf("%s is not captured: it is still %s, not %s; %v", d.path, s.known[got.Content], s.known[i.Content], last)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// finish ends the story and looks at all of it once more, from the store alone.
func (s *story) finish() {
	s.t.Helper()
	s.silence()
	s.settleAll()
	for _, d := range s.subjects {
		s.leave(d)
	}
	for _, d := range s.subjects {
		s.settle(d)
		s.leave(d)
	}
	s.unmount()
	s.t.Logf("%d things happened; the daemon was killed %d times, and there were %d actors", len(s.told), s.kills, s.started)
	s.checkLogs()
	elsewhere := s.serveHistory()
	for _, d := range s.subjects {
		if len(d.instants) == 0 {
			continue
		}
		for _, i := range d.instants {
			if s.worth(d) {
				s.check(elsewhere, d, i)
			}
		}
		s.checkRows(d)
		s.checkGenerations(d)
		s.checkFile(d)
	}
}

// checkLogs makes sure that no daemon met anything that nothing in the story causes.
func (s *story) checkLogs() {
	s.t.Helper()
	for line := range strings.Lines(s.logs.String()) {
		never := []string{"level=ERROR", "capture stopped", "cannot be continued", "cannot be forked"}
		if !slices.ContainsFunc(s.subjects, func(d *subject) bool { return d.unknown && strings.Contains(line, "database="+d.path) }) {
			never = append(never, "has not what the log had")
		}
		if slices.ContainsFunc(never, func(text string) bool { return strings.Contains(line, text) }) {
			s.t.Errorf("a daemon said: %s", line)
		}
	}
}

// checkRows makes sure that every transaction is a state that the database was
// in, and that every commit is one of them, of a time at which it was being made.
func (s *story) checkRows(d *subject) {
	s.t.Helper()
	ctx := s.t.Context()
	store, err := openStore(ctx, s.store, false)
	if err != nil {
		s.t.Fatal(err)
	}
	packs, err := cache.New(store, nil, cache.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	timeline, err := generations.OpenTimeline(ctx, d.client, store, nil, packs)
	if err != nil {
		s.t.Fatal(err)
	}
	found := make(map[digest][]wal.Time)
	for _, row := range s.log(d.client) {
		if !s.worth(d) {
			continue
		}
		at := wal.Time(row.Time)
		g, err := generations.ParseID(row.Generation)
		if err != nil {
			s.t.Fatal(err)
		}
		b, err := restored(record{world: s.world}, timeline, packs, generations.AtTXID(row.Index).In(g))
		if err != nil {
			s.t.Errorf("%s: %+v: %v", d.path, row, err)
			continue
		}
		got, err := contentOfBytes(b)
		found[got.Content] = append(found[got.Content], at)
		vague := slices.ContainsFunc(d.vague, func(v span) bool { return v.from <= at && at <= v.to })
		if _, known := s.known[got.Content]; !vague && (err != nil || !known) {
			s.t.Errorf("%s: transaction %d of %s, at %s, is no state that the database was in: %x, %v", d.path, row.Index, row.Generation, at, got.Content[:3], err)
		}
	}
	for _, i := range d.instants {
		within := func(at wal.Time) bool { return i.since <= at && at <= i.at }
		if i.commit && !d.large && !slices.ContainsFunc(found[i.Content], within) {
			s.t.Errorf("%s: %s, from %s to %s, is no transaction within that time", d.path, i.what, i.since, i.at)
		}
	}
	if err := errors.Join(packs.Close(), closeStore(store)); err != nil {
		s.t.Error(err)
	}
}

// checkGenerations makes sure that there are no more generations than the story
// gave reasons for.
func (s *story) checkGenerations(d *subject) {
	s.t.Helper()
	out, err := s.run("generations", "-json", s.url(d.client))
	if err != nil {
		s.t.Fatal(err)
	}
	var rows []generationRow
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var row generationRow
		if err := dec.Decode(&row); err == io.EOF {
			break
		} else if err != nil {
			s.t.Fatal(err)
		}
		rows = append(rows, row)
	}
	s.t.Logf("%s: %d instants, %d generations for %d reasons", d.path, len(d.instants), len(rows), len(d.due))
	if len(rows) > len(d.due) {
		s.t.Errorf("%s has %d generations, for reasons %q:\n%s", d.path, len(rows), d.due, out)
	}
}

// checkFile compares what is restored with the file that is left: all of it if
// it is the newest, and some of what there was before.
func (s *story) checkFile(d *subject) {
	s.t.Helper()
	i := pick(s.random, d.instants...)
	got := s.restore(d, "-timestamp", i.at.String())
	if st, err := contentOfBytes(got); err != nil {
		s.t.Errorf("%s restored as of %s: %v", d.path, i.at, err)
	} else {
		s.compareStates(d, i, st, st.Raw == i.Raw)
	}
	if !d.exists() {
		return
	}
	want, err := s.left(d)
	if err != nil {
		s.t.Fatal(err)
	}
	if got := s.restore(d); !bytes.Equal(got, want) {
		s.t.Errorf("%s is restored with other bytes (%d) than the file has (%d)", d.path, len(got), len(want))
	}
}

func (s *story) restore(d *subject, by ...string) []byte {
	s.t.Helper()
	out := filepath.Join(s.t.TempDir(), "restored")
	if _, err := s.run(append([]string{"restore", "-o", out, s.url(d.client)}, by...)...); err != nil {
		s.t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// left returns the file that an unmount has left, with the log that it may have.
func (s *story) left(d *subject) ([]byte, error) {
	name := s.name(d)
	c, err := (&sqlite3.SQLiteDriver{}).Open(name)
	if err != nil {
		return nil, err
	}
	conn := c.(*sqlite3.SQLiteConn)
	_, err = conn.Exec("PRAGMA wal_checkpoint(TRUNCATE)", nil)
	var size driver.Value
	if err == nil {
		size, err = value(conn, "SELECT page_count*page_size FROM pragma_page_count, pragma_page_size")
	}
	if err := errors.Join(err, c.Close()); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	// SQLite cuts the file behind the commit, and may be killed in between.
	return b[:min(len(b), int(size.(int64)))], nil
}
