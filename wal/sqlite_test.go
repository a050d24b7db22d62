package wal

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/mattn/go-sqlite3"
)

// allPageSizes are the page sizes SQLite knows.
var allPageSizes = []int{512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}

// tester is what testing.TB and *rapid.T have in common.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
	Fatal(args ...any)
	Errorf(format string, args ...any)
}

// settings are how a database is made.
type settings struct {
	pageSize int
	dsn      string   // parameters of the connection: "psow=0"
	create   []string // pragmas before the first write
	connect  []string // pragmas of each connection
}

// database is a real SQLite database in write-ahead-log mode that never
// checkpoints by itself.
type database struct {
	settings
	t    tester
	path string
	conn *sqlite3.SQLiteConn   // writes
	view *sqlite3.SQLiteConn   // only ever reads what is committed
	open []*sqlite3.SQLiteConn // all that are to be closed
}

// newDatabase makes a database with one table, t(id, v). The table is the first
// transaction in its log.
func newDatabase(t tester, dir string, s settings) *database {
	t.Helper()
	d := &database{settings: s, t: t, path: filepath.Join(dir, "db.sqlite")}
	d.connect(append([]string{fmt.Sprintf("PRAGMA page_size=%d", s.pageSize)}, s.create...)...)
	d.exec("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)")
	return d
}

func (d *database) connect(create ...string) {
	d.t.Helper()
	d.conn = d.dial(append(create, "PRAGMA journal_mode=WAL")...)
	d.view = d.dial()
}

func (d *database) dial(sets ...string) *sqlite3.SQLiteConn {
	d.t.Helper()
	c, err := (&sqlite3.SQLiteDriver{}).Open("file:" + d.path + "?" + d.dsn)
	if err != nil {
		d.t.Fatal(err)
	}
	conn := c.(*sqlite3.SQLiteConn)
	d.open = append(d.open, conn)
	for _, s := range slices.Concat(d.settings.connect, []string{"PRAGMA wal_autocheckpoint=0", "PRAGMA busy_timeout=0"}, sets) {
		if _, err := conn.Exec(s, nil); err != nil {
			d.t.Fatalf("%s: %v", s, err)
		}
	}
	return conn
}

func (d *database) close() {
	for _, c := range d.open {
		if err := c.Close(); err != nil {
			d.t.Errorf("close: %v", err)
		}
	}
	d.open = nil
}

func (d *database) exec(q string, args ...driver.Value) {
	d.t.Helper()
	if _, err := d.conn.Exec(q, args); err != nil {
		d.t.Fatalf("%s: %v", q, err)
	}
}

// checkpoint runs a checkpoint, which readers may keep from being complete.
func (d *database) checkpoint(mode string) {
	d.t.Helper()
	_, err := d.conn.Exec("PRAGMA wal_checkpoint("+mode+")", nil)
	if e, ok := errors.AsType[sqlite3.Error](err); err != nil && !(ok && e.Code == sqlite3.ErrBusy) {
		d.t.Fatalf("checkpoint %s: %v", mode, err)
	}
}

// content returns the whole database as SQLite sees it, page by page.
func (d *database) content() []byte {
	d.t.Helper()
	b, err := d.view.Serialize("main")
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

func (d *database) file() []byte { return readFile(d.t, d.path) }

func (d *database) log() []byte { return readFile(d.t, d.path+"-wal") }

// logSize returns the length of the log file, in bytes, and -1 if there is none.
func (d *database) logSize() int64 {
	d.t.Helper()
	fi, err := os.Stat(d.path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return -1
	} else if err != nil {
		d.t.Fatal(err)
	}
	return fi.Size()
}

// recovered returns the content of a database that SQLite finds with a log that
// nobody has open.
func recovered(t tester, dir string, file, log []byte) []byte {
	t.Helper()
	d := &database{settings: settings{connect: []string{"PRAGMA synchronous=OFF"}}, t: t, path: filepath.Join(dir, "recovered.sqlite")}
	for name, b := range map[string][]byte{d.path: file, d.path + "-wal": log} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.view = d.dial()
	defer d.close()
	return d.content()
}

func readFile(t tester, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// replica is a database kept up to date from the log alone.
type replica struct {
	t        tester
	pages    []byte
	sums     *PageSums
	pageSize int
	last     Position
}

func newReplica(t tester, file []byte, pageSize int) *replica {
	r := &replica{t: t, pages: append([]byte(nil), file...), sums: NewPageSums(pageSize), pageSize: pageSize}
	for p := range Pgno(len(file) / pageSize) {
		r.sums.Set(p+1, PageSum(p+1, r.page(p+1)))
	}
	return r
}

func (r *replica) page(p Pgno) []byte { return r.pages[int(p-1)*r.pageSize : int(p)*r.pageSize] }

// apply takes over a commit, after checking all that a Commit promises.
func (r *replica) apply(log io.ReaderAt, c Commit) {
	r.t.Helper()
	if c.PageSize != r.pageSize || c.Size == 0 {
		r.t.Fatalf("commit of %d pages of %d bytes in a database with pages of %d", c.Size, c.PageSize, r.pageSize)
	}
	n := int(c.Size) * c.PageSize
	r.pages = append(r.pages, make([]byte, max(0, n-len(r.pages)))...)[:n]
	for i, f := range c.Frames {
		if f.Pgno == 0 || f.Pgno > c.Size || i > 0 && f.Pgno <= c.Frames[i-1].Pgno {
			r.t.Fatalf("frame %d of %d is of page %d (size %d)", i, len(c.Frames), f.Pgno, c.Size)
		}
		if _, err := log.ReadAt(r.page(f.Pgno), f.Off); err != nil {
			r.t.Fatal(err)
		}
		if got := PageSum(f.Pgno, r.page(f.Pgno)); got != f.Sum {
			r.t.Fatalf("page %d has checksum %v, the frame says %v", f.Pgno, got, f.Sum)
		}
	}
	r.sums.Apply(c)
	r.last = c.End
}

// check compares with what the database really holds.
func (r *replica) check(want []byte) {
	r.t.Helper()
	if len(r.pages) != len(want) {
		r.t.Fatalf("replica has %d bytes, SQLite sees %d", len(r.pages), len(want))
	}
	var total Checksum
	for p := Pgno(1); int(p) <= len(want)/r.pageSize; p++ {
		page := want[int(p-1)*r.pageSize : int(p)*r.pageSize]
		if string(page) != string(r.page(p)) {
			r.t.Fatalf("page %d of %d differs from what SQLite sees", p, len(want)/r.pageSize)
		}
		sum := PageSum(p, page)
		if r.sums.At(p) != sum {
			r.t.Fatalf("checksum of page %d is %v, want %v", p, r.sums.At(p), sum)
		}
		total ^= sum
	}
	if r.sums.Total() != total || int(r.sums.Size())*r.pageSize != len(want) {
		r.t.Fatalf("checksum of %d pages is %v, want %v of %d bytes", r.sums.Size(), r.sums.Total(), total, len(want))
	}
}
