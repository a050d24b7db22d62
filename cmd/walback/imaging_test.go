package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// TestKilledWhileImaging kills the daemon while it reads the first image of a
// large database that is being written to. There is no history until an image is
// complete; from then on it has every commit.
func TestKilledWhileImaging(t *testing.T) { inModes(t, testKilledWhileImaging) }

func testKilledWhileImaging(t *testing.T, m mode) {
	seed, kills := newSeed(t), 3
	if testing.Short() {
		kills = 2
	}
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")})
	w.mode = m
	db := openAt(t, filepath.Join(w.dir, "app.db"))
	execute(t, db, `PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE big(v BLOB);
		WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<512) INSERT INTO big SELECT randomblob(65536) FROM n`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	w.mount()
	app := suffer(w, "app.db", seed)
	hits := 0
	for n := range kills {
		<-time.After(time.Duration(random.IntN(1+100*n)) * time.Millisecond) // at once the first time
		if captureOf(w, "app.db") == "reading" {
			hits++
		}
		w.kill()
		w.mount()
	}
	if hits == 0 {
		t.Error("no image was being read at any of the kills")
	}
	for captureOf(w, "app.db") != "following" {
		app.until(committed)
	}
	for range 32 {
		app.until(committed)
	}
	app.end()
	w.unmount()
	wantIntact(t, filepath.Join(w.dir, app.path))

	elsewhere := w.serveHistory()
	r := record{w, app.chronicle, w.log(app.client)}
	began := wal.Time(r.rows[0].Time)
	all := len(r.moments)
	for len(r.moments) > 0 && r.moments[0].begun < began {
		if m := r.moments[0]; m.ended < began {
			file := filepath.Join(elsewhere, r.client, m.ended.String(), r.file)
			if _, err := os.Stat(file); !os.IsNotExist(err) {
				t.Errorf("%s, before history begins: %v, want no such file", file, err)
			}
		}
		r.moments = r.moments[1:]
	}
	resumed, begun := w.lineages()
	t.Logf("%d of %d kills hit an image being read; %d commits, %d of them since it was complete; a generation was continued %d times, and begun %d times",
		hits, kills, all, len(r.moments), resumed, begun)
	r = r.checkLog()
	r.each(func(i int, m moment) {
		if m.content != (digest{}) {
			r.check(elsewhere, m.ended.String(), m.content)
			r.check(elsewhere, "@"+r.rows[i].Index.String(), m.content)
		}
	})
}

// captureOf returns what the live mount says of the capture of a database.
func captureOf(w *world, path string) string {
	w.t.Helper()
	status, err := w.status()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, d := range status.Databases {
		if d.Path == path {
			return d.Capture
		}
	}
	return ""
}

// TestUnmountedWhileImaging ends a mount while it reads the first image of a
// large database: the image is completed and shipped first.
func TestUnmountedWhileImaging(t *testing.T) {
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")})
	db := openAt(t, filepath.Join(w.dir, "app.db"))
	execute(t, db, `PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; CREATE TABLE big(v BLOB);
		WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<512) INSERT INTO big SELECT randomblob(65536) FROM n`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(w.dir, "app.db"))
	if err != nil {
		t.Fatal(err)
	}
	w.mount()
	reading := captureOf(w, "app.db") == "reading"
	w.unmount()
	if !reading {
		t.Skip("the image was complete before the mount could be ended")
	}
	restored := filepath.Join(t.TempDir(), "restored.db")
	if out, err := w.run("restore", "-o", restored, w.url("app.db")); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	got, err := os.ReadFile(restored)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("what is restored is not the database")
	}
}
