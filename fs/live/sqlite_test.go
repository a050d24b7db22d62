package live

import (
	"context"
	"database/sql"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"testing"

	"github.com/mattn/go-sqlite3"
)

// SQLite maps the wal-index of a database in WAL mode. A process must not map a
// file that it serves itself: the kernel may hold its memory map while it waits
// for an answer. So the tests' SQLite lives in a child process, which this
// variable of the environment makes of the test program.
const sqliteChild = "WALBACK_TEST_SQLITE"

// SQLite is what the child serves.
type SQLite struct {
	dbs []*sql.DB
}

// Statement is one to execute.
type Statement struct {
	DB   int
	SQL  string
	Args []int
}

// Open opens a database with one connection and returns its number.
func (s *SQLite) Open(dsn string, n *int) error {
	db, err := sql.Open("sqlite3", dsn)
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	*n = len(s.dbs)
	s.dbs = append(s.dbs, db)
	return nil
}

func (s *SQLite) Exec(q Statement, _ *struct{}) error {
	args := make([]any, len(q.Args))
	for i, a := range q.Args {
		args[i] = a
	}
	_, err := s.dbs[q.DB].Exec(q.SQL, args...)
	return err
}

// Query returns the number that a query gives.
func (s *SQLite) Query(q Statement, n *int) error {
	return s.dbs[q.DB].QueryRow(q.SQL).Scan(n)
}

// Serialize returns the database as the connection sees it, byte for byte.
func (s *SQLite) Serialize(n int, content *[]byte) error {
	c, err := s.dbs[n].Conn(context.Background())
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Raw(func(c any) (err error) {
		*content, err = c.(*sqlite3.SQLiteConn).Serialize("main")
		return err
	})
}

func (s *SQLite) Close(n int, _ *struct{}) error { return s.dbs[n].Close() }

// serveSQLite is the child's main function.
func serveSQLite() {
	server := rpc.NewServer()
	if err := server.Register(&SQLite{}); err != nil {
		panic(err)
	}
	server.ServeConn(stdio{os.Stdin, os.Stdout})
}

type stdio struct {
	io.Reader
	io.WriteCloser
}

// child is a process with SQLite.
type child struct {
	*rpc.Client
	t   *testing.T
	cmd *exec.Cmd
}

// startSQLite starts the child, which ends with the test.
func startSQLite(t *testing.T) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), sqliteChild+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{rpc.NewClient(stdio{out, in}), t, cmd}
	t.Cleanup(func() {
		if c.cmd == nil {
			return
		}
		if err := c.Client.Close(); err != nil {
			t.Error(err)
		}
		if err := c.cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// kill ends the child with SIGKILL.
func (c *child) kill() {
	c.t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	c.cmd.Wait() // says that it was killed
	c.Client.Close()
	c.cmd = nil
}

// conn is a connection of the child.
type conn struct {
	t      *testing.T
	client *rpc.Client
	n      int
}

func openSQLite(t *testing.T, client *rpc.Client, dsn string) *conn {
	t.Helper()
	c := &conn{t: t, client: client}
	c.call("SQLite.Open", dsn, &c.n)
	return c
}

func (c *conn) call(method string, args, reply any) {
	c.t.Helper()
	if err := c.client.Call(method, args, reply); err != nil {
		c.t.Fatalf("%s %v: %v", method, args, err)
	}
}

func (c *conn) exec(q string, args ...int) {
	c.t.Helper()
	c.call("SQLite.Exec", Statement{c.n, q, args}, nil)
}

// query returns the number that q gives.
func (c *conn) query(q string) (n int) {
	c.t.Helper()
	c.call("SQLite.Query", Statement{DB: c.n, SQL: q}, &n)
	return n
}

func (c *conn) serialize() (content []byte) {
	c.t.Helper()
	c.call("SQLite.Serialize", c.n, &content)
	return content
}

// close closes the connection; closing it again is fine.
func (c *conn) close() {
	c.t.Helper()
	c.call("SQLite.Close", c.n, nil)
}
