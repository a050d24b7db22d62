package pack

import (
	"bytes"
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"github.com/walback/walback/wal"
)

// written is a page as SQLite left it.
type written struct {
	pgno wal.Pgno
	id   wal.TXID
	page []byte
}

// commits are what SQLite has committed, in the order of a pack.
type commits struct {
	txns     []wal.TxnInfo
	versions []written
	pageSize int
}

// sqliteCommits has SQLite create a database, and then commit n times what do
// tells it; these are returned.
func sqliteCommits(t testing.TB, pageSize int, schema string, n int, do func(r *rand.Rand, tx *sql.DB) error) commits {
	t.Helper()
	name := filepath.Join(t.TempDir(), "db")
	db, err := sql.Open("sqlite3", name+"?_journal_mode=WAL&_synchronous=OFF")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() // it has been read
	db.SetMaxOpenConns(1)
	r := rand.New(rand.NewPCG(1, 1))
	_, err = db.Exec("PRAGMA page_size=" + strconv.Itoa(pageSize) + "; VACUUM; PRAGMA wal_autocheckpoint=0;" + schema + "; PRAGMA wal_checkpoint(TRUNCATE)")
	for range n {
		if err == nil {
			err = do(r, db)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(name + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	c := commits{pageSize: pageSize}
	err = wal.NewTracker(wal.Position{}).Look(bytes.NewReader(log), func(one wal.Commit) error {
		id := wal.TXID(len(c.txns) + 1)
		for _, f := range one.Frames {
			c.versions = append(c.versions, written{f.Pgno, id, log[f.Off:][:pageSize]})
		}
		c.txns = append(c.txns, wal.TxnInfo{
			ID: id, Time: wal.Time(1_700_000_000_000_000 + 1000*len(c.txns)), Size: one.Size,
			Pages: wal.Pgno(len(one.Frames)), Checksum: wal.Checksum(r.Uint64()),
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(c.versions, func(a, b written) int {
		return cmp.Or(cmp.Compare(a.pgno, b.pgno), cmp.Compare(a.id, b.id))
	})
	return c
}

// write writes the commits as one segment.
func (c commits) write(t testing.TB, o WriterOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, Segment, c.pageSize, testPlace, o)
	for _, v := range c.versions {
		if err := w.Add(v.pgno, v.id, v.page); err != nil {
			t.Fatal(err)
		}
	}
	last := c.txns[len(c.txns)-1]
	if _, err := w.Finish(c.txns, wal.Mark{Txn: last, PageSize: c.pageSize}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// smallCommits are rows that are inserted one by one.
func smallCommits(t testing.TB, n int) commits {
	const schema = "CREATE TABLE small (id INTEGER PRIMARY KEY, at INTEGER, note TEXT)"
	return sqliteCommits(t, 4096, schema, n, func(r *rand.Rand, db *sql.DB) error {
		_, err := db.Exec("INSERT INTO small (at, note) VALUES (?, ?)",
			r.Int64(), fmt.Sprintf("order %016x was paid and is to be sent", r.Uint64()))
		return err
	})
}

// shopCommits change pages all over a database of 10 MB: each inserts a row into a
// table with two indexes, and updates one of another, some more often than others.
func shopCommits(t testing.TB, n int) commits {
	const schema = `
		CREATE TABLE orders (id INTEGER PRIMARY KEY, who INTEGER, at INTEGER, note TEXT);
		CREATE INDEX orders_who ON orders (who);
		CREATE INDEX orders_at ON orders (at);
		CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER, notes TEXT);
		WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i+1 FROM n WHERE i < 30000)
			INSERT INTO accounts SELECT i, 0, hex(randomblob(30)) FROM n;
		INSERT INTO orders SELECT id, random(), id, notes FROM accounts`
	return sqliteCommits(t, 4096, schema, n, func(r *rand.Rand, db *sql.DB) error {
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		_, err = tx.Exec("INSERT INTO orders (who, at, note) VALUES (?, unixepoch('now', 'subsec'), ?)",
			r.Int64(), fmt.Sprintf("order %016x was paid", r.Uint64()))
		if err == nil {
			_, err = tx.Exec("UPDATE accounts SET balance = balance + 1 WHERE id = ?", 1+int(30000*math.Pow(r.Float64(), 4)))
		}
		return errors.Join(err, tx.Commit())
	})
}
