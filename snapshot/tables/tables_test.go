package tables

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	_ "github.com/mattn/go-sqlite3"
	"pgregory.net/rapid"

	"github.com/walback/walback/wal"
)

// image is a database in memory that counts the pages that are read.
type image struct {
	bytes    []byte
	pageSize int
	reads    atomic.Int64
}

func (m *image) ReadPage(p wal.Pgno, dst []byte) error {
	m.reads.Add(1)
	copy(dst, m.bytes[int(p-1)*m.pageSize:])
	return nil
}

func (m *image) PageSize() int { return m.pageSize }
func (m *image) Size() int64   { return int64(len(m.bytes)) }

func newImage(t fataler, name string) *image {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := wal.ParseDatabaseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	return &image{bytes: b, pageSize: h.PageSize}
}

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

type connection struct {
	*sql.DB
	t fataler
}

func open(t fataler, name string) connection {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+name+"?_synchronous=OFF&_journal_mode=MEMORY")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return connection{db, t}
}

func (c connection) exec(statements ...string) {
	c.t.Helper()
	for _, s := range statements {
		if _, err := c.Exec(s); err != nil {
			c.t.Fatalf("%.200s: %v", s, err)
		}
	}
}

// rows returns the answer to a query, a line each.
func (c connection) rows(query string) []string {
	c.t.Helper()
	rows, err := c.Query(query)
	if err != nil {
		c.t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		c.t.Fatal(err)
	}
	var lines []string
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			c.t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%q", values))
	}
	if err := rows.Err(); err != nil {
		c.t.Fatalf("%s: %v", query, err)
	}
	return lines
}

// quoted returns names as a list in SQL.
func quoted(names []string) string {
	var all []string
	for _, n := range names {
		all = append(all, "'"+strings.ReplaceAll(n, "'", "''")+"'")
	}
	return strings.Join(all, ",")
}

// schemaOf is a query for what the schema has of tables.
func schemaOf(names []string) string {
	return fmt.Sprintf("SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name COLLATE NOCASE IN (%s) AND type <> 'view' ORDER BY rowid", quoted(names))
}

// take writes tables of the database name to a new file and checks that it
// holds them and nothing else.
func take(t fataler, name, dir string, tables ...string) string {
	t.Helper()
	d, err := Open(newImage(t, name))
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Select(tables...)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.CreateTemp(dir, "taken")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pages, err := s.CopyTo(context.Background(), f, nil)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != int64(pages)*int64(d.source.PageSize()) {
		t.Fatalf("the file has %d bytes, of %d pages (%v)", st.Size(), pages, err)
	}
	was, is := open(t, name), open(t, f.Name())
	defer was.Close()
	defer is.Close()
	if got := is.rows("PRAGMA integrity_check"); !slices.Equal(got, []string{`["ok"]`}) {
		t.Fatalf("%q: integrity_check: %s", tables, got)
	}
	if got, want := is.rows(schemaOf(s.Names())), was.rows(schemaOf(s.Names())); !slices.Equal(got, want) {
		t.Fatalf("schema of %q:\n%s\nwant\n%s", tables, got, want)
	}
	others := is.rows(fmt.Sprintf("SELECT name FROM sqlite_schema WHERE tbl_name COLLATE NOCASE NOT IN (%s,'sqlite_sequence')", quoted(s.Names())))
	if len(others) != 0 {
		t.Fatalf("besides %q there are %q", tables, others)
	}
	for _, table := range s.Names() {
		query := fmt.Sprintf("SELECT * FROM %q", table)
		if got, want := is.rows(query), was.rows(query); !slices.Equal(got, want) {
			t.Fatalf("%s has %d rows, want %d, or others", table, len(got), len(want))
		}
	}
	for _, setting := range []string{"page_size", "encoding", "auto_vacuum", "user_version", "application_id", "freelist_count"} {
		want := was.rows("PRAGMA " + setting)
		if setting == "freelist_count" {
			want = []string{fmt.Sprintf("%q", []any{int64(0)})}
		}
		if got := is.rows("PRAGMA " + setting); !slices.Equal(got, want) {
			t.Fatalf("%s is %s, want %s", setting, got, want)
		}
	}
	return f.Name()
}

// fill makes a database with everything that a table can have.
func fill(t fataler, name string, pageSize, rows int, settings ...string) {
	t.Helper()
	db := open(t, name)
	defer db.Close()
	db.exec(fmt.Sprintf("PRAGMA page_size=%d", pageSize))
	db.exec(settings...)
	db.exec(
		"PRAGMA user_version=77",
		"PRAGMA application_id=99",
		"CREATE TABLE Orders(id INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT, note TEXT UNIQUE, price REAL)",
		"CREATE INDEX by_item ON orders(item, price DESC)",
		"CREATE TABLE keyed(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID",
		"CREATE INDEX by_v ON keyed(v)",
		"CREATE TABLE audit(what TEXT, at)",
		"CREATE TABLE other(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
		"CREATE TABLE empty(a, b, c)",
		`CREATE TABLE "odd 'name"(a)`,
		"CREATE TRIGGER told AFTER INSERT ON orders BEGIN INSERT INTO audit VALUES (new.item, 1); END",
		"CREATE VIEW shown AS SELECT item FROM orders",
		fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d)
			INSERT INTO orders(item, note, price) SELECT printf('item %%d', i%%50),
			printf('%%d %%.*c', i, CASE i%%17 WHEN 0 THEN i*40 WHEN 1 THEN 700 ELSE i%%90 END, 'x'), i*1.5 FROM n`, rows),
		fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d)
			INSERT INTO keyed SELECT printf('%%d key %%.*c', i, i%%300, 'k'), randomblob(i%%5*%d) FROM n`, rows, min(pageSize/3, 1500)),
		fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d)
			INSERT INTO other(v) SELECT randomblob(200) FROM n`, rows),
		"DELETE FROM other WHERE id%3 = 0",
		"DELETE FROM orders WHERE id%7 = 0",
	)
}

var databases = map[string]struct {
	pageSize int
	settings []string
}{
	"512":            {512, nil},
	"512 vacuumed":   {512, []string{"PRAGMA auto_vacuum=FULL"}},
	"1024 UTF-16":    {1024, []string{"PRAGMA encoding='UTF-16le'", "PRAGMA auto_vacuum=INCREMENTAL"}},
	"4096":           {4096, nil},
	"8192 UTF-16":    {8192, []string{"PRAGMA encoding='UTF-16be'"}},
	"65536 vacuumed": {65536, []string{"PRAGMA auto_vacuum=FULL"}},
}

func TestEveryTableByItself(t *testing.T) {
	for name, d := range databases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "db")
			fill(t, file, d.pageSize, 300, d.settings...)
			for _, tables := range [][]string{
				{"orders"}, {"KEYED"}, {"audit"}, {"other"}, {"empty"}, {"odd 'name"},
				{"orders", "keyed", "Orders"}, {"empty", "other", "audit"},
			} {
				taken := take(t, file, dir, tables...)
				goOn(t, taken, tables[0])
			}
		})
	}
}

// goOn uses what was taken as a database: it can be written, shrunk and
// rebuilt.
func goOn(t fataler, name, table string) {
	t.Helper()
	db := open(t, name)
	defer db.Close()
	db.exec(fmt.Sprintf("DELETE FROM %q WHERE abs(random()) %% 2 = 0", table), "CREATE TABLE IF NOT EXISTS audit(what, at)")
	if table == "orders" {
		db.exec("INSERT INTO orders(item) VALUES ('more')")
		if got := db.rows("SELECT id FROM orders WHERE item = 'more'"); !slices.Equal(got, []string{fmt.Sprintf("%q", []any{int64(301)})}) {
			t.Fatalf("AUTOINCREMENT gave %s, want 301", got)
		}
	}
	for _, s := range []string{"PRAGMA incremental_vacuum", "CREATE TABLE more AS SELECT randomblob(5000) FROM (VALUES (1),(2),(3))", "REINDEX", "VACUUM"} {
		db.exec(s)
		if got := db.rows("PRAGMA integrity_check"); !slices.Equal(got, []string{`["ok"]`}) {
			t.Fatalf("after %s: %s", s, got)
		}
	}
}

// A schema may be larger than its first page, and need interior pages.
func TestLargeSchema(t *testing.T) {
	for _, vacuum := range []string{"NONE", "FULL"} {
		t.Run(vacuum, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				dir, err := os.MkdirTemp("", "tables")
				if err != nil {
					t.Fatal(err)
				}
				defer os.RemoveAll(dir)
				file := filepath.Join(dir, "db")
				db := open(t, file)
				db.exec("PRAGMA page_size=512", "PRAGMA auto_vacuum="+vacuum, "BEGIN")
				var tables []string
				for i := range rapid.SampledFrom([]int{1, 2, 3, 4, 5, 6, 40, 150}).Draw(t, "tables") {
					name := fmt.Sprintf("t%d", i)
					tables = append(tables, name)
					comment := rapid.SampledFrom([]int{0, 1, 100, 300, 360, 380, 400, 420, 900, 3000}).Draw(t, "comment")
					db.exec(fmt.Sprintf("CREATE TABLE %s(a /*%s*/)", name, strings.Repeat("c", comment)), fmt.Sprintf("INSERT INTO %s VALUES (%d)", name, i))
				}
				db.exec("COMMIT")
				db.Close()
				if len(tables) > 3 {
					tables = tables[:rapid.IntRange(1, len(tables)).Draw(t, "taken")]
				}
				take(t, file, dir, tables...)
			})
		})
	}
}

// What is not needed is not read.
func TestReadsOnlyWhatBelongsToTheTables(t *testing.T) {
	file := filepath.Join(t.TempDir(), "db")
	fill(t, file, 4096, 5000)
	m := newImage(t, file)
	d, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Select("empty")
	if err != nil {
		t.Fatal(err)
	}
	var w discard
	if _, err := s.CopyTo(t.Context(), &w, nil); err != nil {
		t.Fatal(err)
	}
	if n := m.reads.Load(); n > 5 {
		t.Errorf("%d pages of %d were read for an empty table", n, d.pages)
	}
}

func TestWhatIsNoTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "db")
	fill(t, file, 4096, 1)
	db := open(t, file)
	db.exec("CREATE VIRTUAL TABLE boxes USING rtree(id, a, b)")
	db.Close()
	d, err := Open(newImage(t, file))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"nothing":         `there is no table "nothing"; there are "Orders", "keyed", `,
		"by_item":         "there is no table",
		"shown":           "is a view",
		"boxes":           "is a virtual table",
		"sqlite_sequence": "SQLite's own",
		"sqlite_schema":   "there is no table",
	} {
		_, err := d.Select("orders", name)
		if !errors.Is(err, ErrNoTable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	take(t, file, t.TempDir(), "boxes_node") // what a virtual table keeps its content in is a table
}

// A header that tells of other pages than there are is not believed.
func TestOtherPageSize(t *testing.T) {
	file := filepath.Join(t.TempDir(), "db")
	fill(t, file, 1024, 10)
	m := newImage(t, file)
	m.bytes[16], m.bytes[17] = 0x10, 0 // 4096
	if _, err := Open(m); !errors.Is(err, ErrDamaged) {
		t.Errorf("opened: %v", err)
	}
}

// discard takes everything.
type discard struct{ bytes int64 }

func (d *discard) WriteAt(p []byte, _ int64) (int, error) {
	d.bytes += int64(len(p))
	return len(p), nil
}

// FuzzDamaged: whatever a database holds, it is copied or refused, in bounded
// time and space.
func FuzzDamaged(f *testing.F) {
	for _, pageSize := range []int{512, 1024} {
		file := filepath.Join(f.TempDir(), "db")
		fill(f, file, pageSize, 60, "PRAGMA auto_vacuum=FULL")
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint32(0), byte(0))
		f.Add(b, uint32(pageSize*3+10), byte(0xff))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint32, flip byte) {
		b = bytes.Clone(b)
		if len(b) > 0 {
			b[int(at)%len(b)] ^= flip
		}
		h, err := wal.ParseDatabaseHeader(b)
		if err != nil {
			return
		}
		m := &image{bytes: b[:len(b)/h.PageSize*h.PageSize], pageSize: h.PageSize}
		d, err := Open(m)
		if err != nil {
			return
		}
		s, err := d.Select(d.Names()...)
		if err != nil {
			return
		}
		var w discard
		pages, err := s.CopyTo(t.Context(), &w, nil)
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("an error of another kind: %v", err)
		}
		// Twice: what a wrong length says is written into the schema anew.
		if most := 4*int64(d.pages) + 64; int64(pages) > most {
			t.Errorf("%d pages were written for %d", pages, d.pages)
		}
	})
}

// Bytes that an extension has reserved at the end of each page stay reserved.
func TestReservedBytes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "db")
	fill(t, file, 1024, 300, "PRAGMA auto_vacuum=FULL")
	if out, err := exec.Command("sqlite3", "-batch", file, ".filectrl reserve_bytes 40", "VACUUM").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if m := newImage(t, file); m.bytes[20] != 40 {
		t.Fatalf("%d bytes are reserved, want 40", m.bytes[20])
	}
	for _, table := range []string{"orders", "keyed", "other"} {
		take(t, file, dir, table)
	}
}
