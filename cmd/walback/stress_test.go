package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

var stressCommits = flag.Int("stress.commits", 90, "commits of each configuration of TestLossless; -short makes fewer")

// stressers is how many processes commit at the same time.
const stressers = 3

// stresses are ways to use a database in WAL mode that make a log lose what it had
// as soon as SQLite may.
var stresses = map[string]stressHabits{
	"restart":  {Set: "PRAGMA wal_autocheckpoint=0", Checkpoint: "RESTART", Every: 7, Large: 100},
	"truncate": {Set: "PRAGMA wal_autocheckpoint=0", Checkpoint: "TRUNCATE", Every: 7, Large: 100},
	"passive":  {Set: "PRAGMA wal_autocheckpoint=0", Checkpoint: "PASSIVE", Every: 3, Large: 100},
	"auto":     {Set: "PRAGMA wal_autocheckpoint=20", Large: 100},
	"off":      {Set: "PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint=20", Large: 100},
	"full":     {Set: "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=20", Large: 100},
	"mapped":   {Set: "PRAGMA mmap_size=100000000; PRAGMA wal_autocheckpoint=20", Large: 100},
	"spills":   {Set: "PRAGMA cache_size=3; PRAGMA wal_autocheckpoint=20", Large: 4},
	"exclusive": {
		Set: "PRAGMA locking_mode=EXCLUSIVE; PRAGMA wal_autocheckpoint=20", Batch: 25, Large: 100,
	},
	"exclusive restart": {
		Set: "PRAGMA locking_mode=EXCLUSIVE; PRAGMA wal_autocheckpoint=0", Checkpoint: "RESTART", Every: 7, Batch: 25, Large: 100,
	},
}

// TestLossless lets processes commit as fast as they can while they checkpoint in
// every way. Every commit is a transaction, in order, and the database is rebuilt
// byte for byte.
func TestLossless(t *testing.T) {
	commits := *stressCommits
	if testing.Short() {
		commits = min(commits, 60)
	}
	inModes(t, func(t *testing.T, m mode) {
		for name, h := range stresses {
			t.Run(name, func(t *testing.T) { h.hold(t, m, commits) })
		}
	})
}

func (h stressHabits) hold(t *testing.T, m mode, commits int) {
	t.Helper()
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")})
	w.mode = m
	w.mount()
	defer func(d *daemon) {
		if t.Failed() {
			t.Log(d.log())
			w.keep()
		}
	}(w.daemon)
	h.Database = filepath.Join(w.dir, "app.db")
	db := openAt(t, h.Database)
	execute(t, db, "PRAGMA journal_mode=WAL; "+stressTables)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	h.Seed, h.Look = newSeed(t), max(commits/stressers/8, 1)
	began := time.Now()
	told, err := h.run(commits)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	daemon := w.daemon.cmd.Process.Pid
	w.awaitShipped()
	most := peak(daemon)
	w.unmount()
	wantIntact(t, h.Database) // and without a log, which processes that end together leave
	left, err := os.ReadFile(h.Database)
	if err != nil {
		t.Fatal(err)
	}
	missing := w.missing("app.db", told)
	t.Logf("%d commits by %d processes in %.1f s, %d missing; the daemon had %d MiB at most", len(told), stressers, took.Seconds(), missing, most>>20)
	if most > captureMemory(0) && !raced() {
		t.Errorf("the daemon had %d MiB, want at most %d", most>>20, captureMemory(0)>>20)
	}
	restored := filepath.Join(t.TempDir(), "restored")
	if _, err := w.run("restore", "-o", restored, w.url("app.db")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(restored); err != nil || !bytes.Equal(got, left) {
		t.Errorf("%d bytes are restored, which are not the %d bytes of the database: %v", len(got), len(left), err)
	}
	if _, begun := w.lineages(); begun != 1 {
		t.Errorf("%d generations, want 1", begun)
	}
}

// keep copies what there is for somebody to look at (go test -artifacts).
func (w *world) keep() {
	to := w.t.ArtifactDir()
	for _, dir := range []string{w.dir, w.store.Dir} {
		if err := os.CopyFS(filepath.Join(to, filepath.Base(dir)), os.DirFS(dir)); err != nil {
			w.t.Log(err)
		}
	}
	w.t.Log("copied to ", to)
}

// run returns what the processes have committed, by number.
func (h stressHabits) run(commits int) ([]stressCommit, error) {
	each := make([][]stressCommit, stressers)
	var g errgroup.Group
	for i := range stressers {
		one := h
		one.Seed += uint64(i)
		one.Commits = (commits + i) / stressers
		g.Go(func() (err error) {
			each[i], err = one.process()
			return err
		})
	}
	err := g.Wait()
	all := slices.Concat(each...)
	slices.SortFunc(all, func(a, b stressCommit) int { return a.Number - b.Number })
	return all, err
}

func (h stressHabits) process() (told []stressCommit, err error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("stresser", string(text))
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, &stderr)
	}
	for dec := json.NewDecoder(&out); dec.More(); {
		var c stressCommit
		if err := dec.Decode(&c); err != nil {
			return nil, err
		}
		told = append(told, c)
	}
	if len(told) != h.Commits {
		return nil, fmt.Errorf("%d commits were told of, want %d", len(told), h.Commits)
	}
	return told, nil
}

// missing returns how many of the commits are no transaction, and makes sure that
// there is one for each, in their order, and none besides.
func (w *world) missing(client string, told []stressCommit) (missing int) {
	w.t.Helper()
	past, end := openStressPast(w, client)
	defer end()
	rows := w.log(client)
	numbers := past.numbers(rows[0].Generation)
	found := make(map[int]wal.TXID)
	for i, row := range rows {
		if row.Index != rows[0].Index+wal.TXID(i) || i > 0 && row.Time <= rows[i-1].Time {
			w.t.Fatalf("transaction %+v behind %+v", row, rows[max(i-1, 0)])
		}
		n := numbers[row.Index]
		if n == 0 && len(found) == 0 {
			continue // the tables were being made
		}
		if n != len(found)+1 {
			w.t.Errorf("transaction %d is commit %d, want %d", row.Index, n, len(found)+1)
		}
		found[n] = row.Index
	}
	for i, c := range told {
		if c.Number != i+1 {
			w.t.Fatalf("the processes told of commit %d in place of %d", c.Number, i+1)
		}
		if _, ok := found[c.Number]; !ok {
			missing++
		}
		if before, ok := found[c.Number-1]; ok && c.Content != (digest{}) && past.content(before) != c.Content {
			w.t.Errorf("transaction %d is not the database as of commit %d", before, c.Number-1)
		}
	}
	if missing > 0 || len(found) != len(told) {
		w.t.Errorf("%d of %d commits are missing; %d were found", missing, len(told), len(found))
	}
	return missing
}

// stressPast reads transactions out of the store alone.
type stressPast struct {
	t        *testing.T
	timeline *generations.Timeline
	packs    *cache.Cache
}

func openStressPast(w *world, client string) (past stressPast, end func()) {
	w.t.Helper()
	store, err := openStore(w.t.Context(), w.store, false)
	if err != nil {
		w.t.Fatal(err)
	}
	packs, err := cache.New(store, nil, cache.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	timeline, err := generations.OpenTimeline(w.t.Context(), client, store, nil, packs)
	if err != nil {
		w.t.Fatal(err)
	}
	return stressPast{w.t, timeline, packs}, func() {
		if err := errors.Join(packs.Close(), closeStore(store)); err != nil {
			w.t.Error(err)
		}
	}
}

// numbers returns what the first table has as of each transaction that wrote it,
// as each does that is a commit of a stresser. It reads the versions of that page
// out of the segments: to open a view of each transaction would take longer than
// the stress.
func (p stressPast) numbers(generation string) map[wal.TXID]int {
	p.t.Helper()
	g, err := generations.ParseID(generation)
	if err != nil {
		p.t.Fatal(err)
	}
	segments, err := p.timeline.Segments(p.t.Context(), g)
	if err != nil {
		p.t.Fatal(err)
	}
	const table = 2 // the page of the first
	numbers := make(map[wal.TXID]int)
	for _, s := range segments {
		r, err := p.packs.OpenPack(p.t.Context(), s.PlanObject)
		if err != nil {
			p.t.Fatal(err)
		}
		for v, err := range r.All(table) {
			if err != nil {
				p.t.Fatal(err)
			}
			if v.Pgno != table {
				break
			}
			numbers[v.TXID] = p.number(v)
		}
	}
	return numbers
}

// number returns what the first table has, zero if there is none: the page of a
// table has, at byte 8, where its first row is, which begins with its size, its
// key and two bytes of types.
func (p stressPast) number(v pack.Version) int {
	p.t.Helper()
	const digits = 12
	if cells := binary.BigEndian.Uint16(v.Data[3:]); cells != 1 {
		return 0
	}
	row := v.Data[binary.BigEndian.Uint16(v.Data[8:])+4:]
	n, err := strconv.Atoi(string(row[:digits]))
	if err != nil {
		p.t.Fatalf("transaction %d: %v", v.TXID, err)
	}
	return n
}

func (p stressPast) view(id wal.TXID) *snapshot.View {
	p.t.Helper()
	plan, err := p.timeline.At(p.t.Context(), generations.AtTXID(id), wal.TimeOf(time.Now()))
	if err != nil {
		p.t.Fatal(err)
	}
	view, err := p.packs.View(p.t.Context(), plan)
	if err != nil {
		p.t.Fatal(err)
	}
	return view
}

// content returns the digest of a transaction's bytes.
func (p stressPast) content(id wal.TXID) digest {
	p.t.Helper()
	view := p.view(id)
	h := sha256.New()
	if err := errors.Join(view.CopyTo(p.t.Context(), h, snapshot.CopyOptions{Concurrency: 1}), view.Close()); err != nil {
		p.t.Fatal(err)
	}
	return digest(h.Sum(nil))
}
