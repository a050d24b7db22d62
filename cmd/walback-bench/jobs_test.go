package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"
)

// do has this process do a job: the directory is nobody's.
func do(t *testing.T, j job) (r result) {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := work(string(text), &out); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestJobs(t *testing.T) {
	db := filepath.Join(t.TempDir(), "a database?.db") // a name that a URI must quote
	do(t, job{Do: "create", DB: db, Count: 3, Bytes: 10 * largeRow})

	got := do(t, job{Do: "commits", DB: db, Synchronous: "NORMAL", Rows: 2, Count: 5})
	if got.Count != 5 || len(got.Times) != 5 || got.Log == 0 || got.Seconds <= 0 {
		t.Errorf("five commits: %+v", got)
	}
	if got := do(t, job{Do: "newest", DB: db, ReadOnly: true}); got.Newest != 3+5*2 {
		t.Errorf("the newest row is %d, want 13", got.Newest)
	}
	if got := do(t, job{Do: "load", DB: db, Bytes: 7 * largeRow}); got.Count != 7 {
		t.Errorf("loaded %d rows, want 7", got.Count)
	}
	if got := do(t, job{Do: "fill", DB: db, Count: 4}); got.Count != 4 {
		t.Errorf("changed %d rows, want 4", got.Count)
	}
	if got := do(t, job{Do: "first row", DB: db, ReadOnly: true, Count: 17}); got.Count != 1 {
		t.Errorf("%+v", got)
	}
	pairs := do(t, job{Do: "pairs", DB: db, Count: 1}).Pairs
	if len(pairs) != 1 || pairs[0].First != 1 || pairs[0].Between.IsZero() {
		t.Errorf("pairs %+v", pairs)
	}
}

func TestUnknownJob(t *testing.T) {
	if err := work(`{"Do":"nothing"}`, &bytes.Buffer{}); err == nil {
		t.Error("no error for a job that nobody knows")
	}
}
