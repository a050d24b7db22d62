package main

import (
	"database/sql"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walback/walback/generations/storetest"
)

var coldSize = flag.Int64("cold.size", 64, "size in MiB of the database of TestColdSelect")

// counter is an S3 endpoint that passes everything on to another and counts what
// is asked.
type counter struct {
	*httptest.Server
	gets, lists, bytes atomic.Int64 // bytes of answers
}

func newCounter(t *testing.T, endpoint string) *counter {
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{}
	c.Server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
			if r.In.URL.Query().Has("list-type") {
				c.lists.Add(1)
			} else {
				c.gets.Add(1)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			r.Body = countedAnswer{r.Body, &c.bytes}
			return nil
		},
	})
	t.Cleanup(c.Close)
	return c
}

// reset begins to count again and returns what was counted.
func (c *counter) reset() (gets, lists, bytes int64) {
	return c.gets.Swap(0), c.lists.Swap(0), c.bytes.Swap(0)
}

type countedAnswer struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (a countedAnswer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	a.bytes.Add(int64(n))
	return n, err
}

// itemText is what the text of an item of the large database begins with.
func itemText(id int64) string { return fmt.Sprintf("customer %08d ", id) }

// makeLarge makes a database of about size bytes of which half cannot be
// compressed, and returns how many items it has.
func makeLarge(t *testing.T, name string, size int64) int64 {
	const itemSize = 1010 // bytes in the file
	items := size / itemSize
	execAll(t, name,
		"PRAGMA page_size = 4096",
		"PRAGMA journal_mode = off",
		"PRAGMA synchronous = off",
		"CREATE TABLE item(id INTEGER PRIMARY KEY, noise BLOB, text TEXT)",
		fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d)
			INSERT INTO item SELECT i, randomblob(480),
				printf('customer %%08d ordered %%d of article %%d on day %%d; ', i, i%%17, i*7919%%5003, i%%365) ||
				printf('%%.*c', 430, '-') FROM n`, items),
		"PRAGMA journal_mode = wal")
	return items
}

// execAll executes statements on one connection, and closes it.
func execAll(t *testing.T, name string, statements ...string) {
	t.Helper()
	db := openOne(t, name)
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func openOne(t *testing.T, name string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}

// wantItem selects an item by its key and returns how long that took, with
// opening the database.
func wantItem(t *testing.T, name string, id int64) time.Duration {
	t.Helper()
	began := time.Now()
	db := openOne(t, "file:"+name+"?mode=ro")
	defer db.Close()
	var text string
	if err := db.QueryRow("SELECT text FROM item WHERE id = ?", id).Scan(&text); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if !strings.HasPrefix(text, itemText(id)) {
		t.Fatalf("item %d is %.40q", id, text)
	}
	return took
}

// TestColdSelect: of a large database that has just been taken in, while its
// application was writing, a row of the past is read through a history mount
// that has fetched nothing before: next to nothing of what is stored comes over
// the network. `make test-large` does it with a database of more than 1 GiB,
// which has a page that SQLite locks and never writes.
func TestColdSelect(t *testing.T) {
	server := storetest.Versitygw(t)
	w := newWorld(t, server.URL("databases"))
	file := filepath.Join(w.dir, "big.db")
	items := makeLarge(t, file, *coldSize<<20)
	const lockPage = 1 << 30 // where the page begins that SQLite never writes
	if st, err := os.Stat(file); err != nil || *coldSize > lockPage>>20 && st.Size() <= lockPage {
		t.Fatalf("the database has no page behind the one that is locked: %v", err)
	}

	began := time.Now()
	w.mount()
	t.Logf("mounted in %s", time.Since(began))
	newest := writeWhileReading(t, w, file, items)
	t.Logf("the base image took at most %s; daemon: %s", time.Since(began), memory(t, w))
	execAll(t, file, fmt.Sprintf("DELETE FROM item WHERE id > %d", items/2))
	w.unmount()
	execAll(t, file, "PRAGMA wal_checkpoint(TRUNCATE)")
	rows := w.log("big.db")
	if len(rows) < 2 {
		t.Fatalf("the log has %d transactions", len(rows))
	}
	before := rows[len(rows)-2] // the last in front of the DELETE

	stored := bytesBelow(t, server.Dir)
	c := newCounter(t, server.Endpoint)
	w.store.Endpoint = c.URL
	past := filepath.Join(w.serveHistory(), "big.db", "@"+before.Index.String(), "big.db")
	for _, id := range []int64{items * 3 / 4, items / 3, newest} {
		took := wantItem(t, past, id)
		gets, lists, bytes := c.reset()
		t.Logf("item %d in %s: %d GETs, %d lists, %d bytes: %.3f %% of the %d stored",
			id, took, gets, lists, bytes, 100*float64(bytes)/float64(stored), stored)
		if bytes == 0 && id != newest {
			t.Error("nothing was counted")
		}
		if bytes*50 >= stored {
			t.Errorf("item %d needs %d bytes of %d stored, want less than 2 %%", id, bytes, stored)
		}
	}
	w.store = server.URL("databases")
	restoreLikeCopy(t, w, file)
}

// writeWhileReading inserts items, one a transaction, until the base image of the
// database has been read, and returns the id of the last.
func writeWhileReading(t *testing.T, w *world, name string, last int64) int64 {
	t.Helper()
	db := openOne(t, name)
	defer db.Close()
	first, longest := last, time.Duration(0)
	for reading := true; reading; {
		s, err := w.status()
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Databases) != 1 || s.Databases[0].Error != "" {
			t.Fatalf("status: %+v", s)
		}
		reading = s.Databases[0].Capture == "reading"
		last++
		began := time.Now()
		if _, err := db.Exec("INSERT INTO item VALUES (?, NULL, ?)", last, itemText(last)); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(began))
	}
	t.Logf("%d commits while the base image was read, the longest took %s", last-first-1, longest)
	return last
}

// memory returns what the kernel says of the daemon's memory: the most it had,
// and what it has.
func memory(t *testing.T, w *world) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.daemon.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") || strings.HasPrefix(line, "VmRSS:") {
			found = append(found, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(found, ", ")
}

// bytesBelow returns how long all files below dir are together.
func bytesBelow(t *testing.T, dir string) (sum int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		sum += info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// restoreLikeCopy restores what the plain file holds, and compares: the bytes,
// and for people how long it took.
func restoreLikeCopy(t *testing.T, w *world, file string) {
	t.Helper()
	out := t.TempDir()
	restored, copied := filepath.Join(out, "restored"), filepath.Join(out, "copied")
	began := time.Now()
	if _, err := w.run("restore", "-o", restored, joinClient(w.store, "big.db").String()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	began = time.Now()
	if text, err := exec.Command("sh", "-c", `cp "$1" "$2" && sync "$2"`, "sh", file, copied).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, text)
	}
	t.Logf("restored in %s, copied and synced in %s", took, time.Since(began))
	if text, err := exec.Command("cmp", restored, file).CombinedOutput(); err != nil {
		t.Errorf("the restored file is not the database: %v: %s", err, text)
	}
}
