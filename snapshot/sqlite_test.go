package snapshot

import (
	"database/sql"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/mattn/go-sqlite3"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// database is a real SQLite database whose file is read after every commit.
type database struct {
	*sql.DB
	t    *testing.T
	file string
	*lineage
	counts []int // rows after each commit
}

func create(t *testing.T, pageSize string) *database {
	d := &database{t: t, file: filepath.Join(t.TempDir(), "db.sqlite")}
	var err error
	if d.DB, err = sql.Open("sqlite3", d.file+"?_journal_mode=DELETE&_synchronous=OFF"); err != nil {
		t.Fatal(err)
	}
	d.SetMaxOpenConns(1)
	t.Cleanup(func() { d.Close() })
	d.exec("PRAGMA page_size=" + pageSize)
	d.exec("PRAGMA auto_vacuum=FULL") // deleting rows shrinks the file
	return d
}

func (d *database) exec(query string, args ...any) {
	d.t.Helper()
	if _, err := d.Exec(query, args...); err != nil {
		d.t.Fatalf("%s: %v", query, err)
	}
}

// record adds what is in the file now as a transaction.
func (d *database) record(r *rand.Rand) {
	d.t.Helper()
	image, err := os.ReadFile(d.file)
	if err != nil {
		d.t.Fatal(err)
	}
	h, err := wal.ParseDatabaseHeader(image)
	if err != nil {
		d.t.Fatal(err)
	}
	if d.lineage == nil {
		d.lineage = &lineage{pageSize: h.PageSize}
	}
	var before []byte
	if n := len(d.images); n > 0 {
		before = d.images[n-1]
	}
	written, zero := map[wal.Pgno]struct{}{}, make([]byte, h.PageSize)
	for off := 0; off < len(image); off += h.PageSize {
		old := zero
		if off < len(before) {
			old = before[off:][:h.PageSize]
		}
		if string(old) != string(image[off:][:h.PageSize]) {
			written[wal.Pgno(off/h.PageSize+1)] = struct{}{}
		}
	}
	d.add(r, image, written)
	d.counts = append(d.counts, d.count(d.DB))
}

func (d *database) count(db *sql.DB) (n int) {
	d.t.Helper()
	if err := db.QueryRow("SELECT count(*) FROM t").Scan(&n); err != nil {
		d.t.Fatal(err)
	}
	return n
}

// TestSQLite: real databases that grow, shrink and grow again are shown as they
// were after every commit, byte for byte, and stock SQLite reads them without a
// log.
func TestSQLite(t *testing.T) {
	for _, pageSize := range []string{"512", "4096", "65536"} {
		t.Run(pageSize, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			d := create(t, pageSize)
			d.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
			d.record(r)
			for i := range 30 {
				switch i % 6 {
				case 4:
					d.exec("DELETE FROM t WHERE id % 3 > 0")
				case 5:
					d.exec("VACUUM")
				default:
					d.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < ?)
						INSERT INTO t (v) SELECT randomblob(200) FROM n`, 1+r.IntN(100))
				}
				d.record(r)
			}
			d.exec("PRAGMA journal_mode=WAL")
			d.exec("INSERT INTO t (v) VALUES ('in the log')")
			d.exec("PRAGMA wal_checkpoint(TRUNCATE)")
			d.record(r)

			n := len(d.txns)
			base, low, high := d.snapshot(t, 0), d.segment(t, 1, n/2), d.segment(t, n/2, n)
			for i := range d.txns {
				packs := []*pack.Reader{high, low, base}
				if i < n/2 {
					packs = packs[1:]
				}
				if i == 0 {
					packs = packs[1:]
				}
				v := d.view(t, i, packs...)
				check(t, r, v, d.images[i])
				if i%5 == 0 || i == n-1 {
					d.query(v, d.counts[i])
				}
			}
		})
	}
}

// query opens a view with SQLite from a directory that holds nothing else and
// looks whether it has want rows.
func (d *database) query(v *View, want int) {
	d.t.Helper()
	dir := d.t.TempDir()
	file := filepath.Join(dir, "db.sqlite")
	f, err := os.Create(file)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := io.Copy(f, io.NewSectionReader(ReadOnly(v), 0, v.Size())); err != nil {
		d.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		d.t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", "file:"+file+"?mode=ro")
	if err != nil {
		d.t.Fatal(err)
	}
	defer db.Close()
	if n := d.count(db); n != want {
		d.t.Errorf("transaction %d has %d rows, want %d", v.Txn().ID, n, want)
	}
	for pragma, want := range map[string]string{"integrity_check": "ok", "journal_mode": "delete"} {
		var got string
		if err := db.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			d.t.Errorf("transaction %d: PRAGMA %s: %q, %v", v.Txn().ID, pragma, got, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		d.t.Errorf("SQLite left %v behind, %v", entries, err)
	}
}
