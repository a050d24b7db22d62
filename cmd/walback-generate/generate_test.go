package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/dirstore"
	"github.com/walback/walback/wal"
)

// made is a history, and what it is read with.
type made struct {
	summary
	options
	database []byte
	timeline *generations.Timeline
	cache    *cache.Cache
}

func makeOne(t *testing.T) made {
	t.Helper()
	dir := t.TempDir()
	o := options{dir: filepath.Join(dir, "data"), url: generations.URL{Scheme: "file", Dir: filepath.Join(dir, "store")},
		size: 2 << 20, transactions: 150, span: 30 * 24 * time.Hour, interval: time.Second, seed: 7,
		until: time.Date(2024, 1, 31, 0, 0, 0, 0, time.UTC), progress: io.Discard}
	s, err := generate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	m := made{summary: s, options: o}
	if m.database, err = os.ReadFile(filepath.Join(o.dir, database)); err != nil {
		t.Fatal(err)
	}
	store, err := dirstore.New(o.url.Dir, dirstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m.cache, err = cache.New(store, nil, cache.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.cache.Close() })
	if m.timeline, err = generations.OpenTimeline(t.Context(), s.Client, store, nil, m.cache); err != nil {
		t.Fatal(err)
	}
	return m
}

// txns returns all transactions.
func (m made) txns(t *testing.T) (all []wal.TxnInfo) {
	t.Helper()
	gens, err := m.timeline.Generations(t.Context())
	if err != nil || len(gens) != 1 {
		t.Fatalf("%d generations, %v", len(gens), err)
	}
	for txn, err := range m.timeline.Txns(t.Context(), gens[0].Span()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, txn)
	}
	return all
}

// The past that is made is that of the database which lies there, and is made
// the same again.
func TestGenerate(t *testing.T) {
	a, b := makeOne(t), makeOne(t)
	all := a.txns(t)
	if again := b.txns(t); !slices.Equal(all, again) {
		t.Errorf("the same seed made %d transactions, then others (%d)", len(all), len(again))
	}
	if !bytes.Equal(a.database, b.database) {
		t.Error("the same seed made two databases")
	}
	// The image is a transaction too.
	if last := all[len(all)-1]; len(all) != 151 || last.ID != 151 || a.Transactions != 151 || last.Time != a.Last {
		t.Errorf("%d transactions are stored, the last %d at %s; the summary says %d, the last at %s",
			len(all), last.ID, last.Time, a.Transactions, a.Last)
	}
	err := a.timeline.Use(context.Background(), generations.Latest(), a.Last+1, func(p generations.Plan) error {
		v, err := a.cache.View(context.Background(), p)
		if err != nil {
			return err
		}
		var past bytes.Buffer
		if _, err := v.WriteTo(&past); err != nil {
			return err
		}
		if !bytes.Equal(past.Bytes(), a.database) {
			t.Errorf("the newest past (%d bytes) is not the database (%d bytes)", past.Len(), len(a.database))
		}
		return v.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
	if a.Puts < 10 || a.Written == 0 || a.Compressed < 100<<10 || a.CompressedChanges == 0 || a.Changes < 150*4096 {
		t.Errorf("the summary makes no sense: %+v", a.summary)
	}
}

// A mount that is told to go on does, behind the newest commit.
func TestGeneratedCanBeMounted(t *testing.T) {
	m := makeOne(t)
	store, err := dirstore.New(m.url.Dir, dirstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	spool, err := generations.OpenSpool(generations.SpoolDir(m.dir, m.url.String()), m.url.String())
	if err != nil {
		t.Fatal(err)
	}
	shipper := generations.NewShipper(store, spool, generations.ShipperOptions{})
	w, err := shipper.Database(database, database)
	if err != nil {
		t.Fatal(err)
	}
	past, ok := w.Resume()
	if !ok || past.Ended || int(past.Mark.Txn.ID) != m.Transactions || past.Mark.Txn.Time != m.Last || len(past.States) == 0 {
		t.Errorf("it would go on from %+v (%v), with %d states", past.Mark, ok, len(past.States))
	}
	if err := errors.Join(w.Close(), shipper.Close(), spool.Close()); err != nil {
		t.Error(err)
	}
}

func TestSpread(t *testing.T) {
	const n = 20_000
	from := wal.TimeOf(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	until := from + wal.Time((30 * 24 * time.Hour).Microseconds())
	times := spread(rand.New(rand.NewPCG(1, 1)), n, from, until)
	if len(times) != n || times[0] <= from || times[n-1] > until {
		t.Fatalf("%d times, from %s to %s", len(times), times[0], times[n-1])
	}
	night, bursts := 0, 0
	for i, at := range times {
		if i > 0 && at <= times[i-1] {
			t.Fatalf("time %d is %s, the one before %s", i, at, times[i-1])
		}
		if i > 0 && at-times[i-1] < 20_000 {
			bursts++
		}
		if at.Std().Hour() < 6 {
			night++
		}
	}
	if night == 0 || night > n/20 {
		t.Errorf("%d of %d commits at night, which is quiet", night, n)
	}
	if bursts < n/10 || bursts > n*9/10 {
		t.Errorf("%d of %d commits within 20 ms of another", bursts, n)
	}
}

// More commits than there are microseconds for at random.
func TestSpreadWhereThereIsNoTime(t *testing.T) {
	at := wal.TimeOf(time.Date(2024, 1, 1, 10, 0, 0, 0, time.UTC))
	times := spread(rand.New(rand.NewPCG(1, 1)), 50, at, at+60)
	for i := 1; i < len(times); i++ {
		if times[i] <= times[i-1] || times[i] > at+60 || times[0] <= at {
			t.Fatalf("times %d", times)
		}
	}
}

func TestTogether(t *testing.T) {
	const ms, interval = 1000, time.Second
	at := wal.TimeOf(time.Date(2024, 1, 1, 10, 0, 0, 0, time.UTC))
	rested, busy := generations.Pace{}, generations.Pace{}
	rested.Begin(at.Std(), interval)
	for range 10_000 {
		busy.Begin(at.Std(), interval)
	}
	for _, c := range []struct {
		name  string
		after []wal.Time
		pace  generations.Pace
		want  int
		begin wal.Time
	}{
		{"the first of all", []wal.Time{0, 1}, generations.Pace{}, 1, 0},
		{"after a rest, at once", []wal.Time{100 * ms, 100*ms + 1}, rested, 1, 100 * ms},
		{"at work, when the interval is over", []wal.Time{100 * ms, 1000 * ms, 1000*ms + 1}, busy, 2, 1000 * ms},
		{"all there are", []wal.Time{5, 6}, busy, 2, 1000 * ms},
	} {
		times := make([]wal.Time, len(c.after))
		for i, after := range c.after {
			times[i] = at + after
		}
		if got, begin := together(times, c.pace, interval); got != c.want || begin != at+c.begin {
			t.Errorf("%s: %d at %s, want %d at %s", c.name, got, begin, c.want, at+c.begin)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"4096": 4096, "512MB": 512 << 20, "10GB": 10 << 30, "3KB": 3 << 10} {
		if got, err := parseSize(text); got != want || err != nil {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "GB", "-1", "1TB", "1GG", "99999999999"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}
