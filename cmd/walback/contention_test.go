package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

var increments = flag.Int("contention.increments", 12, "how often each process of TestContention increments the counter")

// contenders is how many processes increment the counter at a time.
const contenders = 8

// contest is how they do it.
type contest struct {
	mode      string
	exclusive bool // one process locks all others out for a while, over and over
	kills     bool // processes are killed, and others take their place
	exact     bool // every commit becomes a transaction
}

var contests = map[string]contest{
	"log":           {mode: "WAL", kills: true, exact: true},
	"log exclusive": {mode: "WAL", kills: true, exact: true, exclusive: true},
	"delete":        {mode: "DELETE", kills: true, exact: true},
	"truncate":      {mode: "TRUNCATE", kills: true, exact: true},
	"persist":       {mode: "PERSIST", kills: true, exact: true},
	// SQLite itself does not survive a kill in these, and nothing marks a commit.
	"memory": {mode: "MEMORY"},
	"off":    {mode: "OFF"},
}

// TestContention lets processes increment one counter in every journal mode, some
// with the stock shell, while others are killed. No increment is lost or made
// twice, and each that was acknowledged is an instant of history.
func TestContention(t *testing.T) {
	each := *increments
	if testing.Short() {
		each = min(each, 5)
	}
	inModes(t, func(t *testing.T, m mode) {
		for name, c := range contests {
			if m == intercepted || c.mode == "WAL" { // nothing else is passed
				t.Run(name, func(t *testing.T) { c.hold(t, m, each) })
			}
		}
	})
}

// hold lets the processes make their increments in one way.
func (c contest) hold(t *testing.T, m mode, each int) {
	t.Helper()
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")}, "-interval", "100ms")
	w.mode = m
	w.mount()
	defer func(d *daemon) {
		if t.Failed() {
			t.Log(d.log())
		}
	}(w.daemon)
	database := filepath.Join(w.dir, "app.db")
	first := speak(t, database, nil)
	for statement := range strings.SplitSeq("PRAGMA journal_mode="+c.mode+";"+counters, ";") {
		first.say("", statement)
	}
	first.end()
	if err := awaitLook(w.looks()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	began := wal.TimeOf(start)
	o := c.run(t, database, each)
	took := time.Since(start)
	n := o.check(t, database)
	w.checkCounted(began, n, c.exact, o)
	t.Logf("%d processes x %d increments: %d in %.1f s, %d kills, refused as busy %d times", contenders, each, n, took.Seconds(), o.kills, o.busy)
	if _, begun := w.lineages(); begun != 1 {
		t.Errorf("%d generations, want 1", begun)
	}
}

// outcome is what the contenders have told.
type outcome struct {
	made  []increment // by all, in the order of the totals
	own   [contenders + 1]int
	died  [contenders + 1]int // how many of a slot were killed
	kills int
	busy  int
}

// run has the contest and returns when all increments are made.
func (c contest) run(t *testing.T, database string, each int) (all outcome) {
	t.Helper()
	seed := newSeed(t)
	slots := make([]outcome, contenders+1)
	var g errgroup.Group
	for slot := 1; slot <= contenders; slot++ {
		g.Go(func() error {
			random := rand.New(rand.NewPCG(seed, uint64(slot)))
			o := orders{Database: database, JournalMode: c.mode, Slot: slot, Style: waiting}
			if slot%2 == 0 {
				o.Style = retrying
			}
			if c.exclusive {
				o.Batch, o.Exclusive = 5, slot == 1
			}
			if slot > contenders-2 && !c.exclusive {
				return slots[slot].shell(t, o, each)
			}
			return slots[slot].contend(t, o, each, c.kills && slot > 1, random)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for slot, s := range slots {
		all.made = append(all.made, s.made...)
		all.own[slot], all.died[slot] = len(s.made), s.kills
		all.kills += s.kills
		all.busy += s.busy
	}
	slices.SortFunc(all.made, func(a, b increment) int { return cmp.Compare(a.Total, b.Total) })
	return all
}

// contend makes the increments with one process after the other: as soon as one
// has told of a few, it is killed.
func (o *outcome) contend(t *testing.T, what orders, each int, kill bool, random *rand.Rand) error {
	for len(o.made) < each {
		what.Increments = each - len(o.made)
		mortal := what.Increments + 1
		if kill {
			mortal = 1 + random.IntN(max(each/2, 2))
		}
		if err := o.contender(t, what, mortal); err != nil {
			return err
		}
	}
	return nil
}

// contender runs one process, and kills it after so many increments.
func (o *outcome) contender(t *testing.T, what orders, mortal int) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(t.Context(), "contender", string(text))
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	killed := false
	for dec := json.NewDecoder(out); ; {
		var i increment
		if dec.Decode(&i) != nil {
			break // it has ended, maybe within a line
		}
		o.made = append(o.made, i)
		o.busy += i.Busy
		if mortal--; mortal == 0 {
			killed = true
			if err := cmd.Process.Kill(); err != nil {
				return err
			}
		}
	}
	if err := cmd.Wait(); err != nil && !killed {
		return fmt.Errorf("%w: %s", err, &stderr)
	} else if err != nil {
		o.kills++
	}
	return nil
}

// shell makes the increments with the stock shell, which is not killed: what it
// prints waits in its buffer.
func (o *outcome) shell(t *testing.T, what orders, each int) error {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Log("without the stock shell: ", err)
		return o.contend(t, what, each, false, nil)
	}
	var script strings.Builder
	script.WriteString(".timeout 60000\n.mode list\n.output /dev/null\n")
	fmt.Fprintf(&script, "PRAGMA journal_mode=%s; PRAGMA synchronous=NORMAL;\n.output\n", what.JournalMode)
	for range each {
		fmt.Fprintf(&script, "BEGIN IMMEDIATE; UPDATE counters SET n=n+1 WHERE slot IN (0, %d) RETURNING n; COMMIT;\n", what.Slot)
	}
	cmd := exec.CommandContext(t.Context(), "sqlite3", "-batch", "-bail", what.Database)
	cmd.Stdin = strings.NewReader(script.String())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("sqlite3: %w: %s", err, out)
	}
	for total := range slices.Chunk(strings.Fields(string(out)), 2) {
		n, err := strconv.ParseInt(total[0], 10, 64)
		if err != nil {
			return fmt.Errorf("sqlite3 printed %s", out)
		}
		o.made = append(o.made, increment{Total: n, At: wal.TimeOf(time.Now())})
	}
	if len(o.made) != each {
		return fmt.Errorf("sqlite3 printed %d totals, want %d", len(o.made), each)
	}
	return nil
}

// check makes sure that the database has every increment once, and returns how
// many it has. A process that was killed may have made one more than it told of.
func (o outcome) check(t *testing.T, database string) int {
	t.Helper()
	wantIntact(t, database)
	db := openAt(t, database)
	defer db.Close()
	text, err := table(db, "SELECT n FROM counters ORDER BY slot")
	if err != nil {
		t.Fatal(err)
	}
	var n [contenders + 1]int
	for slot, field := range strings.Fields(text) {
		if n[slot], err = strconv.Atoi(field); err != nil {
			t.Fatal(err)
		}
	}
	sum := 0
	for slot := 1; slot <= contenders; slot++ {
		sum += n[slot]
		if acknowledged := o.own[slot]; n[slot] < acknowledged || n[slot] > acknowledged+o.died[slot] {
			t.Errorf("slot %d has %d increments; %d were acknowledged, and %d processes were killed", slot, n[slot], acknowledged, o.died[slot])
		}
	}
	if sum != n[0] {
		t.Errorf("the total is %d, the sum of the slots %d", n[0], sum)
	}
	for i, made := range o.made {
		if i > 0 && made.Total == o.made[i-1].Total {
			t.Errorf("two processes incremented the total to %d", made.Total)
		}
	}
	return n[0]
}

// checkCounted makes sure that history has the increments since began, n of them.
func (w *world) checkCounted(began wal.Time, n int, exact bool, o outcome) {
	w.t.Helper()
	d := w.daemon
	w.unmount()
	ended := wal.TimeOf(time.Now())
	// A process that is killed between its commit and the wal-index leaves a commit
	// that nobody learns of: the next one overwrites it.
	undone := strings.Count(d.log(), "a transaction undoes it")
	history := w.serveHistory()
	if got := counted(w.t, history, "latest"); got != int64(n) {
		w.t.Errorf("the latest total of history is %d, want %d", got, n)
	}
	if !exact {
		return
	}
	found := map[int64]wal.Time{}
	transactions := 0
	for _, row := range w.log("app.db") {
		if at := wal.Time(row.Time); at >= began {
			transactions++
			n := counted(w.t, history, at.String())
			if undone == 0 && n != int64(transactions) {
				w.t.Errorf("transaction %d since the counter was made has the total %d", transactions, n)
			}
			if _, ok := found[n]; !ok { // what was undone is there again
				found[n] = at
			}
		}
	}
	if want := n + 2*undone; transactions != want {
		w.t.Errorf("history has %d transactions, want %d: %d increments, and %d more that were undone", transactions, want, n, undone)
	}
	for _, made := range o.made {
		if w.mode == passed {
			made.At = ended // nobody waits for looks
		}
		if at, ok := found[made.Total]; !ok || at > made.At {
			w.t.Errorf("total %d was acknowledged at %s; history has it at %s (%t)", made.Total, made.At, at, ok)
		}
	}
}

// counted reads the total from the past.
func counted(t *testing.T, history, instant string) int64 {
	t.Helper()
	past := openAt(t, "file:"+filepath.Join(history, "app.db", instant, "app.db")+"?mode=ro")
	n, err := value(past, "SELECT n FROM counters WHERE slot=0")
	if err == nil {
		err = past.Close()
	}
	if err != nil {
		t.Fatalf("at %s: %v", instant, err)
	}
	return n.(int64)
}
