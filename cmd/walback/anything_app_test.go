package main

import (
	"crypto/sha256"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/walback/walback/wal"
)

// An actor is a process that uses databases as it is told on stdin, an order a
// line, so that a test can say what happens when, and kill it in the middle. It
// answers on stdout, and ends with its stdin.
type order struct {
	Do   string // see below
	Conn int    // number of the connection, which the test gives
	From int    // of backup: the connection to the source
	File string // of open, image and burst
	SQL  string // of open, exec and value
	N    int    // of backup: pages a step; of burst: commits
	Seed uint64 // of burst
	// Looks is the mount to wait for before the time of the end is taken, and within
	// a burst at each commit, see awaitLook; "" for none.
	Looks string
}

const (
	openConn   = "open"   // File as Conn, then SQL
	closeConn  = "close"  // Conn
	closeAll   = "reset"  // every connection, whatever errors that gives
	execSQL    = "exec"   // SQL on Conn
	queryValue = "value"  // SQL on Conn: the first column of the first row
	lookAt     = "look"   // content of Conn's SQL, a schema's name, within its transaction if it has one
	takeImage  = "image"  // content of File, and its bytes, as a connection of its own sees them
	backUp     = "backup" // From to Conn
	keepLog    = "keep"   // the log when Conn is closed
	burst      = "burst"  // N commits to File, while others do the same
)

// answer ends an order, or tells of a commit within a burst.
type answer struct {
	What  string // done; within a burst also committing, committed
	Code  int    // of SQLite; 0 is success
	Error string `json:",omitempty"`
	Value string `json:",omitempty"`

	Begun, Ended wal.Time // of the statement, or of backup
	Unseen       string   `json:",omitempty"` // why the daemon need not have seen it by then
	state
	Number int64 // of a commit of a burst: how many the database has
}

const done = "done"

// state is what a connection sees of a database.
type state struct {
	Content  digest // of its rows and schema
	PageSize int
	Mode     string // of its journal
	Raw      digest // of its bytes; zero: not looked at
	Readable digest // of its bytes as a view shows them
}

// runActor is the main function of that process.
func runActor() {
	a := &actorProcess{conns: make(map[int]*sqlite3.SQLiteConn), answers: json.NewEncoder(os.Stdout)}
	for orders := json.NewDecoder(os.Stdin); ; {
		var o order
		err := orders.Decode(&o)
		if err == nil {
			err = a.answers.Encode(a.obey(o))
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "actor:", err)
			os.Exit(1)
		}
	}
}

type actorProcess struct {
	conns   map[int]*sqlite3.SQLiteConn
	answers *json.Encoder
}

func (a *actorProcess) obey(o order) answer {
	ans := answer{What: done, Begun: wal.TimeOf(time.Now())}
	var err error
	c := a.conns[o.Conn]
	switch o.Do {
	case openConn:
		if c, err = openDatabase(o.File, o.SQL); err == nil {
			a.conns[o.Conn] = c
		}
	case closeConn:
		delete(a.conns, o.Conn)
		err = c.Close()
	case closeAll:
		for n, c := range a.conns {
			_ = c.Close() // the daemon is gone
			delete(a.conns, n)
		}
	case execSQL:
		_, err = c.Exec(o.SQL, nil)
	case queryValue:
		var v driver.Value
		v, err = value(c, o.SQL)
		ans.Value = fmt.Sprint(v)
	case lookAt:
		ans.state, err = contentOf(c, o.SQL)
	case takeImage:
		ans.state, err = imageOf(o.File)
	case backUp:
		err = backup(c, a.conns[o.From], o.N)
	case keepLog:
		err = c.SetFileControlInt("main", sqlite3.SQLITE_FCNTL_PERSIST_WAL, 1)
	case burst:
		err = a.burst(o)
	}
	ans.end(o.Looks)
	if err != nil {
		ans.Code, ans.Error = -1, err.Error()
		if e, ok := errors.AsType[sqlite3.Error](err); ok {
			ans.Code = int(e.Code)
			ans.Error = fmt.Sprintf("%s (%d)", e.Error(), e.ExtendedCode)
		}
	}
	return ans
}

// end takes the time, once the daemon has looked.
func (ans *answer) end(looks string) {
	if err := awaitLook(looks); err != nil {
		ans.Unseen = err.Error()
	}
	ans.Ended = wal.TimeOf(time.Now())
}

func openDatabase(name, set string) (*sqlite3.SQLiteConn, error) {
	c, err := (&sqlite3.SQLiteDriver{}).Open(name)
	if err != nil {
		return nil, err
	}
	conn := c.(*sqlite3.SQLiteConn)
	if _, err := conn.Exec("PRAGMA busy_timeout=0; "+set, nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// contentOf returns what is in a schema of c: of every table its definition and
// its rows.
func contentOf(c *sqlite3.SQLiteConn, schema string) (state, error) {
	h := sha256.New()
	err := hashRows(h, c, "SELECT type, name, sql FROM "+schema+".sqlite_schema ORDER BY type, name")
	for _, q := range []string{"SELECT * FROM " + schema + ".meta", "SELECT * FROM " + schema + ".t ORDER BY id"} {
		if err == nil {
			err = hashRows(h, c, q)
		}
	}
	if err != nil {
		return state{}, err
	}
	size, err := value(c, "PRAGMA "+schema+".page_size")
	if err != nil {
		return state{}, err
	}
	mode, err := value(c, "PRAGMA "+schema+".journal_mode")
	if err != nil {
		return state{}, err
	}
	return state{Content: digest(h.Sum(nil)), PageSize: int(size.(int64)), Mode: fmt.Sprint(mode)}, nil
}

// hashRows hashes what a query returns. A database without the table has none.
func hashRows(h hash.Hash, c *sqlite3.SQLiteConn, q string) (err error) {
	rows, err := c.Query(q, nil)
	if err != nil {
		if e, ok := errors.AsType[sqlite3.Error](err); ok && e.Code == sqlite3.ErrError {
			return nil
		}
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for row := make([]driver.Value, len(rows.Columns())); ; {
		if err := rows.Next(row); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q\n", row)
	}
}

// imageOf reads a database byte for byte with a connection of its own: one that
// has written may have in its cache what it need not have written.
func imageOf(file string) (st state, err error) {
	c, err := openDatabase(file, "SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if st, err = contentOf(c, "main"); err != nil {
		return st, err
	}
	b, err := c.Serialize("main")
	st.Raw, st.Readable = sha256.Sum256(b), sha256.Sum256(readable(b))
	return st, err
}

// readable makes of a database's bytes what a view shows: a database that needs
// no log.
func readable(b []byte) []byte {
	const versions = 18
	if len(b) > versions+1 {
		b[versions], b[versions+1] = 1, 1
	}
	return b
}

func backup(to, from *sqlite3.SQLiteConn, pages int) (err error) {
	b, err := to.Backup("main", from, "main")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	for left, idle := -1, 0; idle < 3; {
		if done, err := b.Step(pages); done || err != nil {
			return err
		}
		if idle++; b.Remaining() != left {
			left, idle = b.Remaining(), 0
		}
	}
	return sqlite3.Error{Code: sqlite3.ErrBusy}
}

// burst commits while other processes do too, and tells of every commit what its
// content is before it is made.
func (a *actorProcess) burst(o order) (err error) {
	random := rand.New(rand.NewPCG(o.Seed, o.Seed))
	c, err := openDatabase(o.File, o.SQL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for range o.N {
		if err := a.burstCommit(c, random, o.Looks); err != nil {
			return err
		}
	}
	return nil
}

func (a *actorProcess) burstCommit(c *sqlite3.SQLiteConn, random *rand.Rand, looks string) error {
	if _, err := c.Exec("BEGIN IMMEDIATE; "+change(random, "main")+"; "+stamp("main"), nil); err != nil {
		return err
	}
	ans := answer{What: committing}
	n, err := value(c, "SELECT n FROM meta")
	if err != nil {
		return err
	}
	ans.Number = n.(int64)
	if ans.state, err = contentOf(c, "main"); err != nil {
		return err
	}
	ans.Begun = wal.TimeOf(time.Now())
	if err := a.answers.Encode(ans); err != nil {
		return err
	}
	if _, err := c.Exec("COMMIT", nil); err != nil {
		return err
	}
	ans.What = committed
	ans.end(looks)
	return a.answers.Encode(ans)
}

// stamp makes the content of every commit one that was never there before.
func stamp(schema string) string {
	return "UPDATE " + schema + ".meta SET n = n+1, token = randomblob(16)"
}

// create makes what every database of a story has.
const create = "CREATE TABLE meta(n INTEGER, token BLOB); CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB); INSERT INTO meta VALUES(0, randomblob(16))"

// change returns statements that change a database.
func change(r *rand.Rand, schema string) string {
	t := schema + ".t"
	insert := func(n, size int) string {
		return fmt.Sprintf("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < %d) INSERT INTO %s(v) SELECT randomblob(abs(random()) %% %d) FROM c", n, t, size)
	}
	trim := fmt.Sprintf("DELETE FROM %s WHERE id <= (SELECT max(id) FROM %s) - 150", t, t)
	switch r.IntN(11) {
	case 0:
		return fmt.Sprintf("UPDATE %s SET v = randomblob(abs(random()) %% 1500); %s", t, trim) // spills
	case 1:
		return fmt.Sprintf("DELETE FROM %s WHERE id %% %d = 0", t, 1+r.IntN(6))
	case 2:
		return fmt.Sprintf("CREATE TABLE %s.u(x); DROP TABLE %s.u", schema, schema)
	case 3:
		return fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s.i ON t(v)", schema)
	case 4:
		return fmt.Sprintf("DROP INDEX IF EXISTS %s.i", schema)
	case 5:
		return fmt.Sprintf("SAVEPOINT s; %s; ROLLBACK TO s; RELEASE s; %s", insert(1+r.IntN(60), 2000), insert(1, 100))
	case 6:
		return fmt.Sprintf("SAVEPOINT s; DELETE FROM %s; SAVEPOINT p; %s; ROLLBACK TO p; RELEASE s; %s", t, insert(20, 500), insert(5, 3000))
	case 7:
		return fmt.Sprintf("%s; PRAGMA %s.incremental_vacuum(3)", insert(1, 10), schema)
	case 8:
		return trim + "; " + insert(1+r.IntN(80), 1200)
	}
	return insert(1+r.IntN(3), 400)
}
