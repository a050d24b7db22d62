package live

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is a live mount whose databases are captured by recorders.
type world struct {
	t       *testing.T
	dir     string
	backing string // if not dir itself
	inGate  int64
	passed  bool // reads and writes go past the daemon
	// resting: databases rest as soon as nobody uses them, and how they do is
	// remembered in a file.
	resting    bool
	restFile   string
	settleTime time.Duration
	sqlite     *child
	fs         *FS
	set        *set
	said       log

	mu    sync.Mutex
	sinks map[string]*recorder
}

var restingFlag = flag.Bool("live.resting", false, "let databases rest as soon as nobody uses them")

var passedFlag = flag.Bool("live.passed", false, "have the kernel pass reads and writes past the daemon")

func newWorld(t *testing.T, inGate int64) *world {
	needFUSE(t)
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "data"), inGate: inGate, passed: *passedFlag, resting: *restingFlag, sinks: make(map[string]*recorder)}
	w.restFile = filepath.Join(t.TempDir(), "rests")
	w.sqlite = startSQLite(t)
	if err := os.Mkdir(w.dir, 0755); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) sink(path string) *recorder {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.sinks[path]
	if r == nil {
		r = &recorder{}
		w.sinks[path] = r
	}
	return r
}

func (w *world) mount() {
	w.t.Helper()
	w.mountAt(time.Now)
}

// mountAt is mount with another clock.
func (w *world) mountAt(now func() time.Time) {
	w.t.Helper()
	logger := slog.New(slog.NewTextHandler(io.MultiWriter(w.t.Output(), &w.said), nil))
	f, err := mount(w.dir, Options{Backing: w.backing, Logger: logger, InProcess: true, Passthrough: w.passed}, func(root string) (watcher, error) {
		w.set = newSet(root, func(path string) (Sink, error) { return w.sink(path), nil }, now, logger)
		w.set.inGate = w.inGate
		if w.resting {
			w.set.restAfter, w.set.settleTime = time.Millisecond, w.settleTime
		}
		w.set.restFile = w.restFile
		w.set.recall()
		defer func() { w.set.remembered = nil }()
		return w.set, w.set.takeInAll("")
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.set.mountedAt(f.Dir())
	f.set, w.fs = w.set, f
	w.t.Cleanup(w.unmount)
}

// log is what a mount has said.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// says returns how many lines have the text.
func (l *log) says(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (w *world) unmount() {
	if w.fs != nil {
		unmount(w.t, w.fs)
		w.fs = nil
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// open opens a database with one connection.
func (w *world) open(name, params string) *conn {
	w.t.Helper()
	c := openSQLite(w.t, w.sqlite.Client, "file:"+w.path(name)+"?_busy_timeout=10000&"+params)
	w.t.Cleanup(c.close)
	return c
}

// captured fails unless the newest captured state is what db sees now.
func (w *world) captured(name string, db *conn) {
	w.t.Helper()
	if err := w.set.settle(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if err := w.set.save(name); err != nil {
		w.t.Fatal(err)
	}
	want := db.serialize()
	if s, ok := w.sink(name).last(); !ok || s.digest != sha256.Sum256(want) {
		w.t.Fatalf("the newest captured state of %s (transaction %d) is not the database: %s",
			name, s.ID, difference(w.sink(name).mark().pages, want, 512))
	}
}

// difference tells where two databases differ.
func difference(got, want []byte, unit int) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
	}
	for i := 0; i < len(got); i += unit {
		if !bytes.Equal(got[i:i+unit], want[i:i+unit]) {
			return fmt.Sprintf("they differ at byte %d", i)
		}
	}
	return "no difference"
}

// sqlite3Shell runs the sqlite3 program on a database of the plain directory.
func (w *world) sqlite3Shell(name string, statements string) {
	w.t.Helper()
	if out, err := exec.Command("sqlite3", "-bail", w.path(name), statements).CombinedOutput(); err != nil {
		w.t.Fatalf("sqlite3 %q: %v\n%s", statements, err, out)
	}
}

func TestEveryCommitIsCaptured(t *testing.T) {
	for _, pageSize := range []int{512, 4096, 65536} {
		t.Run(fmt.Sprint(pageSize), func(t *testing.T) {
			w := newWorld(t, inGate)
			w.mount()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			testEveryCommit(w, pageSize, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

func testEveryCommit(w *world, pageSize int, rng *rand.Rand) {
	conns := make([]*conn, 3)
	conns[0] = w.open("db.sqlite", "")
	conns[0].exec(fmt.Sprintf("PRAGMA page_size=%d", pageSize))
	conns[0].exec("PRAGMA journal_mode=WAL")
	conns[0].exec("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
	for i := range conns[1:] {
		conns[i+1] = w.open("db.sqlite", "_cache_size=5")
	}
	for _, c := range conns {
		c.exec(fmt.Sprintf("PRAGMA wal_autocheckpoint=%d", 1+rng.IntN(60)))
	}
	var contents [][]byte
	for range 120 {
		c := conns[rng.IntN(len(conns))]
		step(w, c, pageSize, rng)
		contents = append(contents, c.serialize())
	}
	w.captured("db.sqlite", conns[0])
	for i, content := range contents {
		if _, ok := w.sink("db.sqlite").has(content); !ok {
			w.t.Fatalf("the state after step %d was not captured", i)
		}
	}
	if n := len(w.sink("db.sqlite").generations); n != 1 {
		w.t.Errorf("%d generations, want 1", n)
	}
}

// step does one thing an application may do, in one transaction at most.
func step(w *world, c *conn, pageSize int, rng *rand.Rand) {
	blob := 1 + rng.IntN(min(2*pageSize, 4096))
	switch rng.IntN(10) {
	case 0:
		modes := []string{"PASSIVE", "FULL", "RESTART", "TRUNCATE"}
		c.exec("PRAGMA wal_checkpoint(" + modes[rng.IntN(len(modes))] + ")")
	case 1:
		c.exec("DELETE FROM t WHERE id % 3 = 1")
	case 2:
		c.exec("BEGIN; INSERT INTO t (b) VALUES (randomblob(100)); SAVEPOINT s; UPDATE t SET b = zeroblob(50) WHERE id % 2; ROLLBACK TO s; INSERT INTO t (b) VALUES ('after'); COMMIT")
	case 3:
		c.exec("BEGIN; DELETE FROM t; ROLLBACK")
	case 4:
		c.exec("VACUUM")
	case 5: // spills the cache
		c.exec("WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 40) INSERT INTO t (b) SELECT randomblob(?) FROM n", blob)
	default:
		c.exec("INSERT INTO t (b) VALUES (randomblob(?))", blob)
	}
}

// TestBackgroundImage takes in an existing database too large to be read within
// the gate, while it is written to.
func TestBackgroundImage(t *testing.T) {
	w := newWorld(t, 1<<20)
	plain := w.open("big.db", "")
	plain.exec("PRAGMA journal_mode=WAL")
	plain.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)")
	plain.exec("WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i < 4000) INSERT INTO t (b) SELECT randomblob(4000) FROM n")
	plain.close()
	w.mount()
	db := w.open("big.db", "")
	db.exec("PRAGMA wal_autocheckpoint=20")
	for i := 0; ; i++ {
		db.exec("UPDATE t SET b = randomblob(4000) WHERE id = ?", 1+(i*1237)%4000)
		if s, ok := w.sink("big.db").last(); ok && s.ID > 10 {
			break
		}
	}
	w.captured("big.db", db)
	if g := w.sink("big.db").current(); !g.fuzzy {
		t.Error("the image was read within the gate")
	}
}

func TestCaptureGoesOnAfterRemount(t *testing.T) {
	tests := []struct {
		name        string
		meanwhile   func(w *world)
		generations int
	}{
		{"untouched", func(w *world) {}, 1},
		{"opened and closed", func(w *world) { w.sqlite3Shell("a.db", "SELECT count(*) FROM t") }, 1},
		{"written", func(w *world) { w.sqlite3Shell("a.db", "INSERT INTO t VALUES ('meanwhile')") }, 2},
		{"replaced", func(w *world) {
			if err := os.Remove(w.path("a.db")); err != nil {
				w.t.Fatal(err)
			}
			w.sqlite3Shell("a.db", "PRAGMA journal_mode=WAL; CREATE TABLE other (x)")
		}, 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, inGate)
			w.mount()
			db := w.open("a.db", "")
			db.exec("PRAGMA journal_mode=WAL")
			db.exec("CREATE TABLE t (x)")
			for i := range 5 {
				db.exec("INSERT INTO t VALUES (?)", i)
			}
			w.captured("a.db", db)
			db.close()
			w.unmount()
			test.meanwhile(w)
			w.mount()
			db = w.open("a.db", "")
			db.exec("CREATE TABLE IF NOT EXISTS t2 (x)")
			w.captured("a.db", db)
			if n := len(w.sink("a.db").generations); n != test.generations {
				t.Errorf("%d generations, want %d", n, test.generations)
			}
		})
	}
}

// TestLogLeftBehind mounts over what a crash leaves: a log with commits that no
// checkpoint has copied.
func TestLogLeftBehind(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testLogLeftBehind(t, "") })
	t.Run("padded", func(t *testing.T) { testLogLeftBehind(t, "psow=0&_synchronous=FULL") })
}

func testLogLeftBehind(t *testing.T, dsn string) {
	w := newWorld(t, inGate)
	w.mount()
	db := w.open("a.db", dsn)
	db.exec("PRAGMA journal_mode=WAL")
	db.exec("CREATE TABLE t (x)")
	db.exec("INSERT INTO t VALUES ('captured')")
	w.captured("a.db", db)
	db.exec("INSERT INTO t VALUES ('not saved yet')")
	want := db.serialize()
	file, log := readFile(t, w.path("a.db")), readFile(t, w.path("a.db-wal"))
	saved := w.sink("a.db").mark()
	db.close()
	w.unmount()

	// The sink knows what it knew when the daemon was killed.
	w.sink("a.db").rewind(saved)
	writeFile(t, w.path("a.db"), file)
	writeFile(t, w.path("a.db-wal"), log)
	w.mount()
	w.captured("a.db", w.open("a.db", ""))
	if _, ok := w.sink("a.db").has(want); !ok {
		t.Error("the commit that was only in the log is missing")
	}
	if n := len(w.sink("a.db").generations); n != 1 {
		t.Errorf("%d generations, want 1", n)
	}
}

func TestDatabasesComeAndGo(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	w.sqlite3Shell("a.db", "PRAGMA journal_mode=WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1)")
	if err := os.MkdirAll(w.path("eu/north"), 0755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", w.path("a.db"), w.path("eu/north/db.sqlite")).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v %s", err, out)
	}
	w.await("a copy is captured", func() bool { _, ok := w.sink("eu/north/db.sqlite").last(); return ok })
	w.captured("eu/north/db.sqlite", w.open("eu/north/db.sqlite", "mode=ro"))

	if err := os.Rename(w.path("eu"), w.path("us")); err != nil {
		t.Fatal(err)
	}
	w.captured("us/north/db.sqlite", w.open("us/north/db.sqlite", "mode=ro"))

	if err := os.Remove(w.path("a.db")); err != nil {
		t.Fatal(err)
	}
	w.sqlite3Shell("a.db", "PRAGMA journal_mode=WAL; CREATE TABLE other (x)")
	w.captured("a.db", w.open("a.db", ""))
	if n := len(w.sink("a.db").generations); n != 2 {
		t.Errorf("%d generations of a database that was created again, want 2", n)
	}
}

// TestFailingSinkIsNoConcernOfTheApplication breaks the sink and mends it.
func TestFailingSinkIsNoConcernOfTheApplication(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	db := w.open("a.db", "")
	db.exec("PRAGMA journal_mode=WAL")
	db.exec("CREATE TABLE t (x)")
	w.sink("a.db").fail(errors.New("the disk is full"))
	db.exec("INSERT INTO t VALUES (1)")
	db.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	db.exec("INSERT INTO t VALUES (2)")
	if st := w.set.status(); len(st) != 1 || st[0].Phase != "broken" || st[0].Error != "the disk is full" {
		t.Errorf("status %+v", st)
	}
	w.sink("a.db").fail(nil)
	w.await("capture begins again", func() bool { return w.set.save("a.db") == nil })
	db.exec("INSERT INTO t VALUES (3)")
	w.captured("a.db", db)
}

// await waits for something that an event in the background brings about.
func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	await(w.t, what, ok)
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("in vain: %s", what)
		}
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b)
}

func writeFile(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0644); err != nil {
		t.Fatal(err)
	}
}
