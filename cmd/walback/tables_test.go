package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/walback/walback/generations/storetest"
)

// TestRestoreTableFetchesLittle: of a large database, a small table costs about
// what it takes itself, and what -dry-run says is about what is fetched.
func TestRestoreTableFetchesLittle(t *testing.T) {
	server := storetest.Versitygw(t)
	w := newWorld(t, server.URL("databases"))
	file := filepath.Join(w.dir, "big.db")
	makeLarge(t, file, 24<<20)
	execAll(t, file, "CREATE TABLE small(id INTEGER PRIMARY KEY, v TEXT)",
		"INSERT INTO small SELECT id, substr(text, 1, 40) FROM item WHERE id % 10 = 0")
	w.mount()
	w.unmount()

	stored := bytesBelow(t, server.Dir)
	c := newCounter(t, server.Endpoint)
	w.store.Endpoint = c.URL
	for _, table := range []string{"small", "item"} {
		out, err := w.run("restore", "-dry-run", "-json", "-table", table, w.url("big.db"))
		if err != nil {
			t.Fatal(err)
		}
		var plan restorePlan
		if err := json.Unmarshal(out, &plan); err != nil {
			t.Fatal(err)
		}
		_, _, dry := c.reset()
		taken := filepath.Join(t.TempDir(), "taken.db")
		if _, err := w.run("restore", "-o", taken, "-table", table, w.url("big.db")); err != nil {
			t.Fatal(err)
		}
		gets, lists, bytes := c.reset()
		t.Logf("%s: %d GETs, %d lists, %d bytes of %d stored; planned %d with %d bytes", table, gets, lists, bytes, stored, plan.Fetch, dry)
		if table == "small" && (dry+bytes)*20 > stored {
			t.Errorf("%d bytes were fetched of %d stored, and %d to plan it, want less than 5 %% in all", bytes, stored, dry)
		}
		if dry*5 > stored {
			t.Errorf("%s: %d bytes were fetched of %d stored to plan it, want less than 20 %%", table, dry, stored)
		}
		if plan.Fetch*2 < bytes-(1<<20) || plan.Fetch > bytes*2 {
			t.Errorf("%s: planned %d bytes, and %d were fetched", table, plan.Fetch, bytes)
		}
		if st, err := os.Stat(taken); err != nil || st.Size() < plan.Pages*4096 {
			t.Errorf("%s: %v, with %d pages planned: %v", table, st, plan.Pages, err)
		}
		if got, want := countRows(t, taken, table), countRows(t, file, table); got != want {
			t.Errorf("%s has %d rows, want %d", table, got, want)
		}
	}
}

// countRows returns how many rows a table has, in a database that is whole.
func countRows(t *testing.T, name, table string) (n int64) {
	t.Helper()
	db := openOne(t, name)
	defer db.Close()
	var whole string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&whole); err != nil || whole != "ok" {
		t.Fatalf("integrity_check of %s: %s, %v", name, whole, err)
	}
	if err := db.QueryRow(fmt.Sprintf("SELECT count(*) FROM %q", table)).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
