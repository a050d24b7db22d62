package main

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/generations"
)

// fileURI is how SQLite takes any name, and no question mark for a parameter.
func fileURI(name string) string { return (&url.URL{Scheme: "file", Path: name}).String() }

// readRow returns the only row of the only table.
func readRow(t *testing.T, name string) (value string) {
	t.Helper()
	db := openOne(t, fileURI(name)+"?mode=ro")
	defer db.Close()
	if err := db.QueryRow("SELECT a FROM t").Scan(&value); err != nil {
		t.Errorf("%q: %v", name, err)
	}
	return value
}

// TestOddNames: whatever a database is called, it can be had back under that name:
// from the listing, the history and restore.
func TestOddNames(t *testing.T) {
	onStores(t, func(t *testing.T, store generations.URL) {
		w := newWorld(t, store)
		// SQLite appends up to eight bytes for its journal.
		names := []string{
			"two words.db", "line\nbreak.db", "Käse 数据.db", "100%.db", "a+b&c=d?e#f.db", "-o.db", "~.db", "'q\"uote`.db",
			strings.Repeat("n", 255-len("-journal")), strings.Repeat("ü", 60) + "/db.sqlite",
		}
		w.mount()
		for _, name := range names {
			file := filepath.Join(w.dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			execAll(t, fileURI(file), "PRAGMA journal_mode = wal", "CREATE TABLE t (a)", "INSERT INTO t VALUES ('kept')")
		}
		// What is not UTF-8 cannot be a client. The application uses it all the same.
		latin := filepath.Join(w.dir, "latin\xe9.db")
		execAll(t, fileURI(latin), "CREATE TABLE t (a)", "INSERT INTO t VALUES ('kept')")
		if got := readRow(t, latin); got != "kept" {
			t.Errorf("a name that is not UTF-8: %q", got)
		}
		if status, err := w.status(); err != nil || !slices.ContainsFunc(status.Databases, func(d databaseStatus) bool { return strings.Contains(d.Error, "UTF-8") }) {
			t.Errorf("the status does not tell of a name that is not UTF-8: %+v, %v", status.Databases, err)
		}
		w.unmount()

		past := w.serveHistory()
		out, err := w.run("databases", "-json", w.store.String())
		if err != nil {
			t.Fatal(err)
		}
		listed := map[string]bool{}
		for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
			var row databaseRow
			if err := dec.Decode(&row); err != nil {
				t.Fatal(err)
			}
			listed[row.Client] = true
		}
		for _, name := range names {
			client, file := generations.ClientOf(name)
			if !listed[client] {
				t.Errorf("%q is not listed", client)
			}
			restored := filepath.Join(t.TempDir(), "restored")
			if _, err := w.run("restore", "-o", restored, w.url(client)); err != nil {
				t.Errorf("%q: %v", client, err)
			} else if got := readRow(t, restored); got != "kept" {
				t.Errorf("%q restored has %q", client, got)
			}
			// Copied, since SQLite does not open paths of more than 512 bytes.
			content, err := os.ReadFile(filepath.Join(past, client, "latest", file))
			copied := filepath.Join(t.TempDir(), "copied")
			if err := errors.Join(err, os.WriteFile(copied, content, 0o600)); err != nil {
				t.Fatal(err)
			}
			if got := readRow(t, copied); got != "kept" {
				t.Errorf("the past of %q has %q", client, got)
			}
		}
	})
}

// TestHistoryOfTheDeleted: what a deleted database has been stays readable while
// and after another one takes its name, in a generation of its own.
func TestHistoryOfTheDeleted(t *testing.T) {
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")})
	w.mount()
	file, past := filepath.Join(w.dir, "a.db"), filepath.Join(w.history, "a.db")
	execAll(t, file, "PRAGMA journal_mode = wal", "CREATE TABLE t (a)", "INSERT INTO t VALUES ('first')")
	first := time.Now().UTC()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := readRow(t, filepath.Join(past, "latest", "a.db")); got != "first" {
		t.Errorf("latest of the deleted database has %q", got)
	}
	execAll(t, file, "PRAGMA journal_mode = delete", "CREATE TABLE t (a)", "INSERT INTO t VALUES ('second')")
	for instant, want := range map[string]string{"latest": "second", first.Format("2006-01-02T15:04:05.000000Z"): "first"} {
		if got := readRow(t, filepath.Join(past, instant, "a.db")); got != want {
			t.Errorf("%s has %q, want %q", instant, got, want)
		}
	}
	w.unmount()
	out, err := w.run("generations", "-json", w.url("a.db"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(out), "\n"); n != 2 {
		t.Errorf("%d generations, want 2:\n%s", n, out)
	}
}
