package generations_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// stopped returns a directory and a store that a mount has left in good order
// after n commits, and the database.
func stopped(t *testing.T, n int) (*memory, string, *database) {
	t.Helper()
	m := newMemory()
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(20, 512)
	r.begin(w, d.base(false))
	for range n {
		w.Append(d.commit())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r.flush()
	r.close()
	if left, err := os.ReadDir(filepath.Join(r.dir, "objects")); err != nil || len(left) > 0 {
		t.Fatalf("the spool still has %v, %v", left, err)
	}
	return m, r.dir, d
}

func TestRestartContinues(t *testing.T) {
	m, dir, d := stopped(t, 3)
	r := newRig(t, m, dir, time.Microsecond)
	w := r.open()
	past, ok := w.Resume()
	mark := past.Mark
	if want := (wal.Position{Salt1: 1, Salt2: 2, Frames: uint32(len(d.log.b) / 512), PageSize: 512}); !ok || mark.Txn != d.last || mark.Log != want || mark.PageSize != 512 {
		t.Fatalf("resumes at %+v, %v", mark, ok)
	}
	m.calls = nil
	w.Append(d.commit())
	r.flush()
	w.Append(d.commit())
	r.flush()
	if lists, puts, all := m.count("list", ""), m.count("put", ".wal"), len(m.calls); lists != 1 || puts != 2 || all != 3 || m.calls[0].op != "list" {
		t.Fatalf("continuing took %v, want one list and then two puts", m.calls)
	}
	wantHistory(t, m, nil, d.history)
}

// A store that is not what it was when we left costs the generation: capture is
// told, and begins another.
func TestStoreChangedWhileAway(t *testing.T) {
	remove := func(part string) func(m *memory, d *database) {
		return func(m *memory, _ *database) {
			for _, k := range m.keys() {
				if strings.Contains(k, part) {
					delete(m.objects, k)
				}
			}
		}
	}
	cases := map[string]struct {
		commits int
		change  func(m *memory, d *database)
	}{
		"emptied":                  {2, remove("")},
		"emptied, no segments yet": {0, remove("")},
		"segment lost":             {2, remove(".wal")},
		"snapshot lost":            {0, remove(".snap")},
		"somebody went on": {2, func(m *memory, d *database) {
			r := newRig(t, m, copyDir(t, d.dir), time.Microsecond)
			theirs := d.fork(30)
			w := r.open()
			w.Append(theirs.commit())
			r.flush()
			r.close()
		}},
		"somebody went far on": {2, func(m *memory, d *database) {
			r := newRig(t, m, copyDir(t, d.dir), time.Microsecond)
			theirs := d.fork(31)
			w := r.open()
			for range 2 {
				w.Append(theirs.commit())
				r.flush()
			}
			r.close()
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m, dir, d := stopped(t, c.commits)
			d.dir = dir
			c.change(m, d)
			r := newRig(t, m, dir, time.Microsecond)
			w := r.open()
			if past, ok := w.Resume(); !ok || past.Ended {
				t.Fatal("does not resume")
			}
			w.Append(d.commit())
			err := <-r.broken
			if !errors.Is(err, generations.ErrBroken) || !errors.Is(w.Err(), generations.ErrBroken) || !errors.Is(w.Save(), generations.ErrBroken) {
				t.Fatalf("told %v, writer %v", err, w.Err())
			}
			if past, ok := w.Resume(); !ok || !past.Ended || (past.States != nil) != strings.HasPrefix(name, "somebody") {
				t.Fatal("resumes a broken generation")
			}
			w.Append(d.commit()) // goes nowhere
			d.history = nil
			r.begin(w, d.base(false))
			if w.Err() != nil {
				t.Fatal(w.Err())
			}
			w.Append(d.commit())
			r.flush()
			tl, err := generations.OpenTimeline(t.Context(), client, m, nil, packs{m, nil})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range d.history {
				plan, err := tl.At(t.Context(), generations.AtTime(want.Time), d.last.Time)
				if err != nil || plan.Txn != want.TxnInfo {
					t.Fatalf("%s is %+v, %v", want.Time, plan.Txn, err)
				}
			}
			if left, err := r.spool.List(client); err != nil || len(left) > 0 {
				t.Fatalf("the spool still has %v, %v", left, err)
			}
		})
	}
}

// When the spool was lost and the clock is behind, the new generation would
// sort before the old one; it is begun again.
func TestNewGenerationIsTheNewest(t *testing.T) {
	m, _, d := stopped(t, 2)
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w := r.open()
	back := newDatabase(21, 512)
	back.last.Time -= wal.Time(time.Hour.Microseconds())
	r.begin(w, back.base(false))
	if err := <-r.broken; !errors.Is(err, generations.ErrBroken) {
		t.Fatal(err)
	}
	back.history = nil
	r.begin(w, back.base(false))
	w.Append(back.commit())
	r.flush()
	wantLatest(t, m, d.last.Time, back.last)
}

// wantLatest wants txn to be the newest transaction in the store, at the time now.
func wantLatest(t *testing.T, m *memory, now wal.Time, txn wal.TxnInfo) {
	t.Helper()
	tl, err := generations.OpenTimeline(t.Context(), client, m, nil, packs{m, nil})
	if err != nil {
		t.Fatal(err)
	}
	if plan, err := tl.At(t.Context(), generations.Latest(), now); err != nil || plan.Txn != txn {
		t.Fatalf("latest is %+v, %v, want %+v", plan.Txn, err, txn)
	}
}

// A transaction that cannot be read any more ends the generation. What was
// saved before it is shipped.
func TestSaveFails(t *testing.T) {
	failures := map[string]func(txn *wal.Txn){
		"unreadable":  func(txn *wal.Txn) { txn.Source = unreadable{} },
		"overwritten": func(txn *wal.Txn) { txn.Frames[0].Off += 512; txn.Source = zeros{} },
		"out of line": func(txn *wal.Txn) { txn.ID++ },
		"time stands": func(txn *wal.Txn) { txn.Time -= 1 << 40 },
	}
	for name, spoil := range failures {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			r := newRig(t, m, t.TempDir(), time.Microsecond)
			w, d := r.open(), newDatabase(22, 512)
			r.begin(w, d.base(false))
			for range 2 {
				w.Append(d.commit())
			}
			if err := w.Save(); err != nil {
				t.Fatal(err)
			}
			good := d.history
			txn := d.commit()
			spoil(txn)
			w.Append(txn)
			if err := w.Save(); !errors.Is(err, generations.ErrBroken) || w.Err() == nil {
				t.Fatalf("saved: %v, %v", err, w.Err())
			}
			r.flush()
			wantHistory(t, m, nil, good)
			d.history = good
			r.begin(w, d.base(false))
			w.Append(d.commit())
			r.flush()
			wantHistory(t, m, nil, d.history)
		})
	}
}

type unreadable struct{}

func (unreadable) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

func TestOneWriterPerClient(t *testing.T) {
	r := newRig(t, newMemory(), t.TempDir(), time.Microsecond)
	w := r.open()
	if _, err := r.shipper.Database(client, "db.sqlite"); err == nil {
		t.Fatal("a client was opened twice")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	d := newDatabase(23, 512)
	r.begin(w, d.base(false))
	again, err := r.shipper.Database(client, "other.db")
	if err != nil {
		t.Fatal(err)
	}
	if past, ok := again.Resume(); !ok || !past.Ended {
		t.Fatal("another file resumes the generation")
	}
	for _, bad := range []string{"", "a//b", "../a", "a/", "a/generations/0123456789abcdef"} {
		if _, err := r.shipper.Database(bad, "db.sqlite"); err == nil {
			t.Errorf("client %q was accepted", bad)
		}
	}
}
