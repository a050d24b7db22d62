package main

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walback/walback/generations"
)

var (
	workloadSeed    = flag.Uint64("workload.seed", 0, "seed of the random workloads; 0: a new one")
	workloadCommits = flag.Int("workload.commits", 500, "commits of a random workload; -short makes fewer")
)

// newSeed returns the seed of a test and says which it is.
func newSeed(t *testing.T) uint64 {
	seed := *workloadSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-workload.seed=%d", seed)
	return seed
}

// TestEveryCommitIsAnInstant is the promise of walback: whatever an application
// does to a database, the content after each of its commits is found by its
// time, just before it, and by its index; through the history mount, by restore,
// and elsewhere from the store alone, also from when it was compacted on.
func TestEveryCommitIsAnInstant(t *testing.T) {
	everywhere(t, func(t *testing.T, store generations.URL, m mode) {
		seed, commits := newSeed(t), *workloadCommits
		if testing.Short() {
			commits = min(commits, 100)
		}
		random := rand.New(rand.NewPCG(seed, 0))
		w := newWorld(t, store, "-interval", pick(random, 100*time.Millisecond, 300*time.Millisecond, time.Second).String())
		w.mode = m
		w.mount()
		var all []*workload
		for i := range 4 {
			path := fmt.Sprintf("tenant%d/db.sqlite", i)
			if err := os.Mkdir(filepath.Join(w.dir, filepath.Dir(path)), 0o755); err != nil {
				t.Fatal(err)
			}
			all = append(all, newWorkload(w, path, random.Uint64()))
		}
		runAll(w, random, all, commits/2)
		for _, d := range all {
			d.disconnect()
		}
		w.unmount()
		w.mount()
		for _, d := range all {
			d.connect()
		}
		runAll(w, random, all, commits-commits/2)
		for _, d := range all {
			record{world: w, chronicle: d.chronicle}.checkTimes(w.history)
			d.disconnect()
		}
		w.unmount()
		elsewhere := w.serveHistory()
		var open []*os.File // whose objects are merged and deleted before they are read
		for _, d := range all {
			f, err := os.Open(filepath.Join(elsewhere, d.client, "latest", d.file))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			open = append(open, f)
		}
		if _, err := w.run("compact", "-grace", "0s", store.String()); err != nil {
			t.Fatal(err)
		}
		for i, d := range all {
			r := record{w, d.chronicle, w.log(d.client)}.checkLog()
			content, err := io.ReadAll(open[i])
			if err != nil {
				t.Fatal(err)
			}
			r.compare("latest, opened before it was compacted", writable(content), d.moments[len(d.moments)-1].content)
			r.checkTransactions(elsewhere)
			r.checkRestores()
			r.checkCommand(random, 4)
		}
	})
}

// runAll makes n commits in whatever order, and looks back while more are made.
func runAll(w *world, random *rand.Rand, all []*workload, n int) {
	w.t.Helper()
	for i := range n {
		d := pick(random, all...)
		d.run(1)
		if i%16 == 0 {
			m := pick(random, d.moments...)
			record{world: w, chronicle: d.chronicle}.check(w.history, m.ended.String(), m.content)
		}
	}
}
