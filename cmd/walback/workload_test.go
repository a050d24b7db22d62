package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// digest stands for the whole content of a database.
type digest [sha256.Size]byte

// moment is a database as its application knows it to have been.
type moment struct {
	// The commit was made behind begun, and done before ended, on the clock of the
	// application. What it saw at ended was the content.
	begun, ended wal.Time
	content      digest
}

// chronicle is what an application remembers of a database's past: a moment for
// every commit. It is the model that history is compared with.
type chronicle struct {
	path         string // below the mount
	client, file string
	moments      []moment
}

func newChronicle(path string) *chronicle {
	c := &chronicle{path: path}
	c.client, c.file = generations.ClientOf(path)
	return c
}

// habits are how an application uses a database.
type habits struct {
	pageSize    int
	autoVacuum  string
	connections int
	cachePages  int    // a few make transactions spill
	autocheck   int    // wal_autocheckpoint
	logLimit    int    // journal_size_limit
	synchronous string // OFF, NORMAL, FULL
	dsn         string
}

// habitsOf draws habits.
func habitsOf(r *rand.Rand) habits {
	h := habits{
		pageSize:    512 << r.IntN(8),
		autoVacuum:  pick(r, "NONE", "FULL", "INCREMENTAL"),
		connections: 1 + r.IntN(5),
		cachePages:  pick(r, 3, 10, 2000),
		autocheck:   pick(r, 0, 1, 4, 30, 1000),
		logLimit:    pick(r, -1, 0, 50_000),
		synchronous: pick(r, "OFF", "NORMAL", "NORMAL", "FULL"),
	}
	if r.IntN(8) == 0 { // the log is padded, if it is synced
		h.dsn, h.synchronous = "psow=0", "FULL"
	}
	return h
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// workload does random things to one database, over several connections that
// take turns in the order that the seed gives, and keeps its chronicle.
type workload struct {
	t    *testing.T
	name string // of the database file
	// looks is the mount to wait for at each commit, see awaitLook; "" for none.
	looks string
	*chronicle
	habits
	random *rand.Rand
	conns  []*connection
	reader *sqlite3.SQLiteConn // sees what is committed and nothing else
	rows   int                 // number of the last row
	large  bool                // it is time to delete
	last   digest
}

// connection is one of the application's, and what it is in the middle of.
type connection struct {
	*sqlite3.SQLiteConn
	writing    bool // has the write lock
	reading    bool // in a read transaction
	savepoints int
}

// newWorkload creates the database.
func newWorkload(world *world, path string, seed uint64) *workload {
	random := rand.New(rand.NewPCG(seed, seed))
	w := &workload{t: world.t, name: world.dir + "/" + path, chronicle: newChronicle(path), habits: habitsOf(random), random: random}
	w.t.Logf("%s: %+v", path, w.habits)
	if w.synchronous != "FULL" { // then the commit has the time of its fsync
		w.looks = world.looks()
	}
	w.connect(fmt.Sprintf("PRAGMA page_size=%d", w.pageSize), "PRAGMA auto_vacuum="+w.autoVacuum)
	w.commit(w.conns[0], "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	return w
}

// connect opens all connections; create comes before the first write.
func (w *workload) connect(create ...string) {
	w.t.Helper()
	for range w.connections {
		w.conns = append(w.conns, &connection{SQLiteConn: w.dial(create...)})
		create = nil
	}
	w.reader = w.dial()
}

func (w *workload) dial(create ...string) *sqlite3.SQLiteConn {
	w.t.Helper()
	c, err := (&sqlite3.SQLiteDriver{}).Open("file:" + w.name + "?" + w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	conn := c.(*sqlite3.SQLiteConn)
	for _, q := range append(create, "PRAGMA journal_mode=WAL", "PRAGMA busy_timeout=0", "PRAGMA synchronous="+w.synchronous,
		fmt.Sprintf("PRAGMA cache_size=%d", w.cachePages), fmt.Sprintf("PRAGMA wal_autocheckpoint=%d", w.autocheck),
		fmt.Sprintf("PRAGMA journal_size_limit=%d", w.logLimit)) {
		if _, err := conn.Exec(q, nil); err != nil {
			w.t.Fatalf("%s: %s: %v", w.path, q, err)
		}
	}
	return conn
}

// disconnect closes all connections: the last one checkpoints and removes the
// log. What was not committed is lost.
func (w *workload) disconnect() {
	w.t.Helper()
	for _, c := range w.conns {
		if err := c.Close(); err != nil {
			w.t.Errorf("%s: %v", w.path, err)
		}
	}
	if err := w.reader.Close(); err != nil {
		w.t.Errorf("%s: %v", w.path, err)
	}
	w.conns, w.reader = nil, nil
}

// run goes on until n commits more are made.
func (w *workload) run(n int) {
	w.t.Helper()
	for n += len(w.moments); len(w.moments) < n; {
		w.step()
	}
}

// step does one random thing.
func (w *workload) step() {
	w.t.Helper()
	c := pick(w.random, w.conns...)
	switch {
	case w.random.IntN(10) == 0:
		w.aside(c)
	case c.writing:
		w.within(c)
	case c.reading:
		w.try(c, pick(w.random, "COMMIT", "SELECT count(*) FROM t", "SELECT max(id) FROM t"))
		c.reading = !c.AutoCommit()
	default:
		w.idle(c)
	}
}

// aside is what a connection may do at any time, whatever others do.
func (w *workload) aside(c *connection) {
	w.t.Helper()
	switch w.random.IntN(4) {
	case 0:
		w.try(c, fmt.Sprintf("PRAGMA wal_autocheckpoint=%d", pick(w.random, 0, 1, 4, 30, 1000)))
	case 1:
		if w.random.IntN(8) == 0 {
			w.disconnect()
			w.connect()
		}
	default:
		w.try(c, "PRAGMA wal_checkpoint("+pick(w.random, "PASSIVE", "FULL", "RESTART", "TRUNCATE")+")")
	}
}

// idle begins something.
func (w *workload) idle(c *connection) {
	w.t.Helper()
	switch w.random.IntN(20) {
	case 0:
		w.commit(c, "VACUUM")
	case 1, 2:
		w.try(c, "BEGIN; SELECT count(*) FROM t")
		c.reading = !c.AutoCommit()
	case 3, 4, 5, 6, 7, 8, 9, 10:
		w.commit(c, "BEGIN IMMEDIATE; "+w.change()+"; "+w.row()+"; COMMIT")
	case 11, 12, 13:
		w.commit(c, w.row())
	default:
		c.writing = w.try(c, "BEGIN IMMEDIATE")
		c.savepoints = 0
	}
}

// within goes on with a transaction, or ends it.
func (w *workload) within(c *connection) {
	w.t.Helper()
	switch n := w.random.IntN(12); {
	case n < 4:
		w.commit(c, w.row()+"; COMMIT")
	case n == 4:
		w.try(c, "ROLLBACK")
	case n == 5:
		c.savepoints++
		w.try(c, fmt.Sprintf("SAVEPOINT s%d", c.savepoints))
	case n == 6 && c.savepoints > 0:
		c.savepoints = 1 + w.random.IntN(c.savepoints)
		w.try(c, fmt.Sprintf("ROLLBACK TO s%d", c.savepoints))
	case n == 7 && c.savepoints > 0:
		w.try(c, fmt.Sprintf("RELEASE s%d", c.savepoints))
		c.savepoints--
	default:
		w.try(c, w.change())
	}
	c.writing = !c.AutoCommit()
}

// row is a statement that makes every content one of its own.
func (w *workload) row() string {
	w.rows++
	return fmt.Sprintf("INSERT INTO t(v) VALUES('row %d')", w.rows)
}

// change is a statement that changes more or less of the database.
func (w *workload) change() string {
	if w.large {
		return fmt.Sprintf("DELETE FROM t WHERE id %% %d <> 0", 2+w.random.IntN(4))
	}
	switch w.random.IntN(6) {
	case 0: // more pages than a small cache holds
		return fmt.Sprintf(`INSERT INTO t(v) WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<%d)
			SELECT randomblob(%d) FROM n`, 4+w.random.IntN(8), w.pageSize*3/4)
	case 1: // in overflow pages
		return fmt.Sprintf("INSERT INTO t(v) VALUES(randomblob(%d))", w.pageSize*(1+w.random.IntN(4)))
	case 2:
		return fmt.Sprintf("UPDATE t SET v=randomblob(length(v)) WHERE id %% %d = 0", 1+w.random.IntN(9))
	case 3:
		return fmt.Sprintf("DELETE FROM t WHERE id %% %d = 0", 1+w.random.IntN(9))
	case 4:
		return "CREATE TABLE IF NOT EXISTS u(x); DROP TABLE u; PRAGMA incremental_vacuum(3)"
	}
	return w.row()
}

// try executes statements; false says that others were in the way, which is as
// it should be with several connections.
func (w *workload) try(c *connection, q string) bool {
	w.t.Helper()
	_, err := c.Exec(q, nil)
	if e, ok := errors.AsType[sqlite3.Error](err); ok && (e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrLocked) {
		return false
	}
	if err != nil {
		w.t.Fatalf("%s: %s: %v", w.path, q, err)
	}
	return true
}

// commit executes statements that end with a commit and enters it into the
// chronicle.
func (w *workload) commit(c *connection, q string) {
	w.t.Helper()
	m := moment{begun: wal.TimeOf(time.Now())}
	if !w.try(c, q) {
		return
	}
	if err := awaitLook(w.looks); err != nil {
		w.t.Fatal(err)
	}
	m.ended = wal.TimeOf(time.Now())
	content, err := w.reader.Serialize("main")
	if err != nil {
		w.t.Fatalf("%s: %v", w.path, err)
	}
	if m.content = sha256.Sum256(content); m.content == w.last {
		w.t.Fatalf("%s: %s changed nothing", w.path, q)
	}
	const most = 64 << 10
	w.large = len(content) > max(most, 6*w.pageSize)
	w.last = m.content
	w.moments = append(w.moments, m)
}
