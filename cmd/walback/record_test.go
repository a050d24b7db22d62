package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
)

// record compares what walback has recorded of a database with its chronicle.
type record struct {
	*world
	*chronicle
	rows []logRow // transactions; behind checkLog, that of moment i is the one at i
}

// checkers is how many views are looked at, at a time.
const checkers = 4

// check makes sure that the file at an instant of a history mount has the
// content.
func (r record) check(history, instant string, want digest) {
	r.t.Helper()
	content, err := os.ReadFile(filepath.Join(history, r.client, instant, r.file))
	if err != nil {
		r.t.Errorf("at %s: %v", instant, err)
		return
	}
	r.compare(instant, writable(content), want)
}

// compare reports a content that is not the one wanted, and which it is instead.
// The application may not have looked at what it should be.
func (r record) compare(instant string, got []byte, want digest) {
	r.t.Helper()
	have := digest(sha256.Sum256(got))
	if have == want || want == (digest{}) {
		return
	}
	is, wanted := "unknown", "unknown"
	for i, m := range r.moments {
		if m.content == have {
			is = strconv.Itoa(i)
		}
		if m.content == want {
			wanted = strconv.Itoa(i)
		}
	}
	r.t.Errorf("%s at %s: %d bytes with the content of commit %s, want that of commit %s", r.path, instant, len(got), is, wanted)
}

// writable undoes what lets stock SQLite open a view: it says again that the
// database has a log.
func writable(view []byte) []byte {
	const versions = 18
	copy(view[min(versions, len(view)):], []byte{2, 2})
	return view
}

// checkTimes makes sure that every content is found by the time at which the
// application saw it.
func (r record) checkTimes(history string) {
	r.t.Helper()
	r.each(func(i int, m moment) { r.check(history, m.ended.String(), m.content) })
}

// each calls do with every moment, several at a time.
func (r record) each(do func(i int, m moment)) {
	var g errgroup.Group
	g.SetLimit(checkers)
	for i, m := range r.moments {
		g.Go(func() error {
			do(i, m)
			return nil
		})
	}
	_ = g.Wait() // do reports
}

// checkLog makes sure that each commit is one transaction, of a time within that
// of the commit, and that there is none besides but those that made the database
// in front. It returns the record without these.
func (r record) checkLog() record {
	r.t.Helper()
	for i, row := range r.rows {
		first := r.rows[0]
		if due := first.Index + wal.TXID(i); row.Index != due || row.Generation != first.Generation {
			r.t.Fatalf("%s: transaction %d of generation %s where %d of %s is due", r.path, row.Index, row.Generation, due, first.Generation)
		}
	}
	made := 0
	for made < len(r.rows) && wal.Time(r.rows[made].Time) < r.moments[0].begun {
		made++
	}
	if made == 0 || len(r.rows)-made != len(r.moments) {
		r.t.Fatalf("%s: %d transactions in front and then %d for %d commits%s", r.path, made, len(r.rows)-made, len(r.moments), r.unmatched())
	}
	r.rows = r.rows[made:]
	for i, m := range r.moments {
		if at := wal.Time(r.rows[i].Time); at < m.begun || at > m.ended {
			r.t.Errorf("%s: commit %d was made between %s and %s, recorded at %s", r.path, i, m.begun, m.ended, at)
		}
	}
	return r
}

// unmatched says which commits are not one transaction, and which transactions
// are no commit.
func (r record) unmatched() (text string) {
	rest := r.rows
	for i, m := range r.moments {
		n := 0
		for ; len(rest) > 0 && wal.Time(rest[0].Time) <= m.ended; rest = rest[1:] {
			if wal.Time(rest[0].Time) < m.begun {
				text += fmt.Sprintf("\nbefore commit %d: %+v", i, rest[0])
			} else {
				n++
			}
		}
		if n != 1 {
			text += fmt.Sprintf("\ncommit %d, from %s to %s, is %d transactions", i, m.begun, m.ended, n)
		}
	}
	return text + fmt.Sprintf("\nbehind the last: %+v", rest)
}

// checkTransactions makes sure that every content is found by its index, and the
// one before until a microsecond before the time of its transaction.
func (r record) checkTransactions(history string) {
	r.t.Helper()
	r.each(func(i int, m moment) {
		row := r.rows[i]
		r.check(history, "@"+row.Index.String(), m.content)
		if i > 0 {
			r.check(history, (wal.Time(row.Time) - 1).String(), r.moments[i-1].content)
		}
	})
}

// checkRestores restores every moment by the time of its transaction, out of the
// store alone, with the code that the command runs.
func (r record) checkRestores() {
	r.t.Helper()
	ctx := r.t.Context()
	store, err := openStore(ctx, r.store, false)
	if err != nil {
		r.t.Fatal(err)
	}
	packs, err := cache.New(store, nil, cache.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	timeline, err := generations.OpenTimeline(ctx, r.client, store, nil, packs)
	if err != nil {
		r.t.Fatal(err)
	}
	r.each(func(i int, m moment) {
		at := wal.Time(r.rows[i].Time)
		got, err := restored(r, timeline, packs, generations.AtTime(at))
		if err != nil {
			r.t.Errorf("%s: restoring commit %d: %v", r.path, i, err)
			return
		}
		r.compare(at.String(), got, m.content)
	})
	if err := errors.Join(packs.Close(), closeStore(store)); err != nil {
		r.t.Error(err)
	}
}

func restored(r record, timeline *generations.Timeline, packs *cache.Cache, at generations.Instant) ([]byte, error) {
	ctx := r.t.Context()
	plan, err := timeline.At(ctx, at, wal.TimeOf(time.Now()))
	if err != nil {
		return nil, err
	}
	view, err := packs.View(ctx, plan)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Grow(int(view.Size()))
	err = view.CopyTo(ctx, &out, snapshot.CopyOptions{Concurrency: 1})
	return out.Bytes(), errors.Join(err, view.Close())
}

// checkCommand restores n of the moments as people do.
func (r record) checkCommand(random *rand.Rand, n int) {
	r.t.Helper()
	for range n {
		i := random.IntN(len(r.moments))
		out := filepath.Join(r.t.TempDir(), "restored")
		by := []string{"-timestamp", r.moments[i].ended.String()}
		if random.IntN(2) == 0 {
			by = []string{"-index", r.rows[i].Index.String()}
		}
		if _, err := r.run(append([]string{"restore", "-o", out, r.url(r.client)}, by...)...); err != nil {
			r.t.Error(err)
			continue
		}
		got, err := os.ReadFile(out)
		if err != nil {
			r.t.Error(err)
			continue
		}
		r.compare(by[1], got, r.moments[i].content)
	}
}
