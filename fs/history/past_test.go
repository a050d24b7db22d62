package history

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/dirstore"
	"github.com/walback/walback/generations/storetest"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// began is when the histories made here begin: the time of their transaction 1.
var began = wal.TimeOf(time.Date(2024, 1, 14, 15, 45, 0, 0, time.UTC))

const second = wal.Time(1_000_000)

// past is a store with histories in it.
type past struct {
	dir   string
	store *storetest.Counter
}

func newPast(t testing.TB) *past {
	t.Helper()
	p := &past{dir: t.TempDir()}
	s, err := dirstore.New(p.dir, dirstore.Options{Create: true, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	p.store = storetest.Counting(s)
	return p
}

// put stores b under key.
func (p *past) put(t testing.TB, key string, b []byte) {
	t.Helper()
	if err := p.store.Put(t.Context(), key, io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))); err != nil {
		t.Fatal(err)
	}
}

// file returns where the store keeps a key.
func (p *past) file(key string) string { return filepath.Join(p.dir, filepath.FromSlash(key)) }

// database is a real SQLite database whose every commit is put into the store,
// the first one as a snapshot, each other as a segment of its own, a second
// after the one before.
type database struct {
	past   *past
	client string
	file   string
	gen    generations.ID
	sql    *sql.DB
	path   string

	pageSize int
	image    []byte // the file as of the last commit
	txns     []wal.TxnInfo
	images   [][]byte // of each transaction
	keep     bool     // images are wanted
}

func (p *past) database(t testing.TB, client, file string) *database {
	t.Helper()
	d := &database{past: p, client: client, file: file, path: filepath.Join(t.TempDir(), file), keep: true}
	d.gen = generations.NewID(began, 0)
	var err error
	if d.sql, err = sql.Open("sqlite3", d.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.sql.Close() })
	d.sql.SetMaxOpenConns(1)
	d.exec(t, "PRAGMA journal_mode=WAL")
	return d
}

func (d *database) exec(t testing.TB, query string) {
	t.Helper()
	if _, err := d.sql.Exec(query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// change runs a query and returns the pages it changed.
func (d *database) change(t testing.TB, query string) (wal.TxnInfo, []wal.Pgno) {
	t.Helper()
	d.exec(t, query)
	d.exec(t, "PRAGMA wal_checkpoint(TRUNCATE)")
	image, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := wal.ParseDatabaseHeader(image)
	if err != nil {
		t.Fatal(err)
	}
	d.pageSize = h.PageSize
	txn := wal.TxnInfo{ID: 1, Time: began, Size: wal.Pgno(len(image) / d.pageSize)}
	if n := len(d.txns); n > 0 {
		txn.ID, txn.Time = d.txns[n-1].ID+1, d.txns[n-1].Time+second
	}
	var changed []wal.Pgno
	for no := wal.Pgno(1); no <= txn.Size; no++ {
		off := int(no-1) * d.pageSize
		page := image[off : off+d.pageSize]
		txn.Checksum ^= wal.PageSum(no, page)
		if off >= len(d.image) || !bytes.Equal(page, d.image[off:off+d.pageSize]) {
			changed = append(changed, no)
		}
	}
	txn.Pages = wal.Pgno(len(changed))
	d.image = image
	d.txns = append(d.txns, txn)
	if d.keep {
		d.images = append(d.images, image)
	}
	return txn, changed
}

func (d *database) page(no wal.Pgno) []byte {
	return d.image[int(no-1)*d.pageSize : int(no)*d.pageSize]
}

// commit runs a query and puts the transaction it is.
func (d *database) commit(t testing.TB, query string) wal.TxnInfo {
	t.Helper()
	txn, changed := d.change(t, query)
	o := generations.Object{Client: d.client, Generation: d.gen, Kind: generations.SegmentObject, First: txn.ID}
	kind := pack.Segment
	if txn.ID == 1 {
		o.Kind, kind = generations.SnapshotObject, pack.Snapshot
		m := generations.Manifest{Format: 1, File: d.file, PageSize: d.pageSize, Created: txn.Time, Writer: "test"}
		d.past.put(t, generations.Object{Client: d.client, Generation: d.gen, Kind: generations.ManifestObject}.Key(), m.Encode())
	}
	var b bytes.Buffer
	w := pack.NewWriter(&b, kind, d.pageSize, o.Place(), pack.WriterOptions{Concurrency: 2})
	for _, no := range changed {
		if err := w.Add(no, txn.ID, d.page(no)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish([]wal.TxnInfo{txn}, wal.Mark{Txn: txn, PageSize: d.pageSize}); err != nil {
		t.Fatal(err)
	}
	d.past.put(t, o.Key(), b.Bytes())
	return txn
}

// orders is a history of three transactions: a table, ten rows, none.
func (p *past) orders(t testing.TB, client, file string) *database {
	t.Helper()
	d := p.database(t, client, file)
	d.commit(t, "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
	d.commit(t, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 10)
		INSERT INTO orders SELECT i, 'item ' || i FROM n`)
	d.commit(t, "DELETE FROM orders")
	return d
}

// readOnly is the image of a transaction as the tree shows it: bytes 18 and 19
// say that there is no log (SQLite file format §1.3.3).
func (d *database) readOnly(id wal.TXID) []byte {
	b := slices.Clone(d.images[id-1])
	b[18], b[19] = 1, 1
	return b
}

// logs collects what is logged.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// mounted is a tree under test.
type mounted struct {
	*FS
	cache *cache.Cache
	log   *logs
}

// mount shows p; change may set options.
func (p *past) mount(t testing.TB, change func(*Options)) *mounted {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("mounting needs /dev/fuse:", err)
	}
	log := &logs{}
	o := Options{Store: p.store, InProcess: true, Logger: slog.New(slog.NewTextHandler(log, nil))}
	if change != nil {
		change(&o)
	}
	var err error
	if o.Cache == nil {
		if o.Cache, err = cache.New(o.Store, o.Spool, cache.Options{Dir: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Mount(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := f.Unmount(ctx); err != nil {
			t.Error(err)
			unix.Unmount(f.Dir(), unix.MNT_DETACH)
		}
		if err := o.Cache.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("logged:\n%s", log)
		}
	})
	return &mounted{f, o.Cache, log}
}

// path returns a path in the tree.
func (m *mounted) path(elem ...string) string {
	return filepath.Join(append([]string{m.Dir()}, elem...)...)
}

// output runs a program and returns what it printed.
func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// sqlite runs the stock sqlite3 on a file.
func sqlite(t testing.TB, file, query string) string {
	t.Helper()
	return output(t, "sqlite3", "-batch", file, query)
}
