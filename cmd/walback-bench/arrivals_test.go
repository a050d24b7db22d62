package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Only an object that carries commits counts, in whatever directory it appears,
// and when it is whole.
func TestArrivals(t *testing.T) {
	store := t.TempDir()
	a, err := watchStore(store, sideWalback)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	dir := filepath.Join(store, "app.db", "generations", "1", "wal")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// The events of the new directories are what watches them.
	if err := a.quiet(10 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	put := func(name string) {
		t.Helper()
		tmp := filepath.Join(dir, "tmp")
		if err := os.WriteFile(tmp, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	put("0000000001.other")
	if n, err := a.wait(10 * time.Millisecond); n != 0 || err != nil {
		t.Fatalf("%d arrived that are no segments, %v", n, err)
	}
	put("0000000002.wal")
	put("0000000003.wal")
	if n, err := a.wait(10 * time.Second); n != 2 || err != nil {
		t.Fatalf("%d arrived, %v; want 2", n, err)
	}
}

func TestWatchStoreOfNobody(t *testing.T) {
	if _, err := watchStore(t.TempDir(), sidePlain); err == nil {
		t.Error("watching for what nobody ships")
	}
}
