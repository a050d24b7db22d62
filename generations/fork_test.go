package generations_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// fork makes d what it was after transaction from, and forks there.
func (r *rig) fork(w *generations.Writer, d *database, from wal.TXID) {
	r.t.Helper()
	d.goBack(from)
	if err := w.Fork(from, d.commit()); err != nil {
		r.t.Fatal(err)
	}
}

// putsFail is a hook of a store that can be read and not written to.
func putsFail(c call) error {
	if c.op == "put" {
		return errDown
	}
	return nil
}

// wait returns what comes over c, soon.
func wait[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was told")
	}
	return v
}

// A fork begins behind any transaction whose state is kept, wherever that is: in
// the middle of a piece or a segment, in the spool alone, in the parent's own
// parent. All of everything can be read, before it is shipped and after.
func TestForks(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m, dir := newMemory(), t.TempDir()
			r := newRig(t, m, dir, time.Microsecond)
			w, d := r.open(), newDatabase(100+seed, 512)
			if seed%3 == 0 {
				m.hook(putsFail, nil) // all of it stays in the spool, until the end
			}
			r.begin(w, d.base(seed%2 == 0))
			w.Append(d.commit())
			for range 12 {
				switch d.rng.IntN(8) {
				case 0: // a restart
					if err := w.Save(); err != nil {
						t.Fatal(err)
					}
					r.close()
					r = newRig(t, m, dir, time.Microsecond)
					w = r.open()
				case 1, 2, 3:
					past := resume(t, w)
					wantStates(t, past, d.history)
					if past.Ended || past.Mark.Txn != d.last || len(past.States) == 0 {
						t.Fatalf("past %+v, want up to %+v", past, d.last)
					}
					r.fork(w, d, past.States[d.rng.IntN(len(past.States))].ID)
				}
				for range d.rng.IntN(5) {
					w.Append(d.commit())
				}
				if seed%3 != 0 && d.rng.IntN(4) == 0 {
					r.flush()
				}
			}
			if err := w.Save(); err != nil {
				t.Fatal(err)
			}
			wantHistory(t, m, r.spool, d.history)
			m.hook(nil, nil)
			r.flush()
			wantHistory(t, m, nil, d.history)
			if left, err := r.spool.List(client); err != nil || len(left) > 0 {
				t.Fatalf("the spool still has %v, %v", left, err)
			}
			if st := r.shipper.Status()[0]; st.Err != nil || st.Queued != 0 || st.Committed != d.last || st.Shipped != d.last {
				t.Fatalf("status %+v", st)
			}
		})
	}
}

// A fork uploads what differs and no image.
func TestForkUploadsWhatDiffers(t *testing.T) {
	m, dir, d := stopped(t, 4)
	r := newRig(t, m, dir, time.Microsecond)
	w := r.open()
	m.calls = nil
	r.fork(w, d, 3)
	r.flush()
	if n, all := m.count("put", ".snap"), m.count("put", ""); n != 0 || all != 2 {
		t.Fatalf("%d puts, %d of them snapshots: %v", all, n, m.calls)
	}
	wantHistory(t, m, nil, d.history)
}

// What does not follow is refused, and leaves the generation as it was, ended.
func TestForkRefused(t *testing.T) {
	cases := map[string]func(from *wal.TXID, first *wal.Txn){
		"unknown transaction": func(from *wal.TXID, first *wal.Txn) { *from, first.ID = 9, 10 },
		"wrong index":         func(_ *wal.TXID, first *wal.Txn) { first.ID++ },
		"too early":           func(_ *wal.TXID, first *wal.Txn) { first.Time -= 1 << 30 },
		"other checksum":      func(_ *wal.TXID, first *wal.Txn) { first.Checksum++ },
		"other page size":     func(_ *wal.TXID, first *wal.Txn) { first.PageSize = 1024 },
		"unreadable":          func(_ *wal.TXID, first *wal.Txn) { first.Source = unreadable{} },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			m, dir, d := stopped(t, 4)
			r := newRig(t, m, dir, time.Microsecond)
			w := r.open()
			before := slices.Clone(d.history)
			d.goBack(3)
			from, first := wal.TXID(3), d.commit()
			spoil(&from, first)
			if err := w.Fork(from, first); err == nil {
				t.Fatal("forked")
			}
			if left, err := r.spool.List(client); err != nil || len(left) > 0 {
				t.Fatalf("left over: %v, %v", left, err)
			}
			past := resume(t, w)
			if !past.Ended || w.Err() == nil || past.Mark.Txn != before[len(before)-1].TxnInfo {
				t.Fatalf("past %+v, writer %v", past, w.Err())
			}
			wantStates(t, past, before)
			d.history, d.last.Time = before, first.Time+1<<31
			r.fork(w, d, past.Mark.Txn.ID)
			r.flush()
			wantHistory(t, m, nil, d.history)
		})
	}
}

// A process is killed in the middle of Fork: before the state file is written
// the parent goes on; afterwards the fork is there, also its state.
func TestKilledFork(t *testing.T) {
	m := newMemory()
	m.hook(func(call) error { return errDown }, nil)
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(90, 512)
	r.begin(w, d.base(false))
	for range 4 {
		w.Append(d.commit())
	}
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	before, parent := copyDir(t, r.dir), slices.Clone(d.history)
	r.fork(w, d, 3)
	after := copyDir(t, r.dir)
	r.close()

	objects := func(name string) string { return filepath.Join(name, "objects") }
	written, err := filepath.Glob(filepath.Join(objects(after), client, "generations", "*", "*", "0000000004-*"))
	if err != nil || len(written) != 1 {
		t.Fatalf("pieces %v, %v", written, err)
	}
	crashes := map[string]struct {
		state, states string // spools to take these from
		history       []instant
	}{
		"before the state file":       {before, before, parent},
		"after the state file":        {after, before, d.history},
		"after all":                   {after, after, d.history},
		"the states, by a power loss": {before, after, parent},
	}
	for name, c := range crashes {
		t.Run(name, func(t *testing.T) {
			dir, m := copyDir(t, after), newMemory()
			overlayState(t, c.state, dir)
			b, err := os.ReadFile(statesFile(t, c.states))
			if err == nil {
				err = os.WriteFile(statesFile(t, dir), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			crash{name, dir, m, c.history}.recover(t, d)
		})
	}
}

// What keeps a parent's transactions from the store breaks the fork that goes on
// from them; what happens to those behind them does not.
func TestParentCannotBeShipped(t *testing.T) {
	cases := map[string]struct {
		spoil func(t *testing.T, dir string)
		lives bool
	}{
		"piece before the fork lost":  {loseObject("*", "wal/*0003.piece"), false},
		"piece behind the fork lost":  {loseObject("*", "wal/0000000005-*.piece"), true},
		"image lost":                  {loseObject("*", "snapshot/*.snap"), false},
		"manifest of the parent lost": {loseObject("*", "generation.json"), false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			m.hook(func(call) error { return errDown }, nil)
			r := newRig(t, m, t.TempDir(), time.Microsecond)
			w, d := r.open(), newDatabase(91, 512)
			r.begin(w, d.base(false))
			for range 5 {
				w.Append(d.commit())
				if err := w.Save(); err != nil {
					t.Fatal(err)
				}
			}
			r.fork(w, d, 4)
			dir := copyDir(t, r.dir)
			r.close()
			c.spoil(t, dir)
			m.hook(nil, nil)
			r = newRig(t, m, dir, time.Microsecond)
			w = r.open()
			if c.lives {
				r.flush()
				past := resume(t, w)
				if past.Ended || past.Mark.Txn != d.last {
					t.Fatalf("past %+v", past)
				}
				d.history = slices.DeleteFunc(d.history, func(i instant) bool { return i.epoch == 0 && i.ID > 4 })
				wantHistory(t, m, nil, d.history)
				return
			}
			if w.Err() == nil {
				wait(t, r.broken)
			}
			if past := resume(t, w); !past.Ended || len(past.States) > 0 || !errors.Is(w.Err(), generations.ErrBroken) {
				t.Fatalf("past %+v, writer %v", past, w.Err())
			}
			if err := w.Fork(4, d.commit()); err == nil {
				t.Fatal("forked what will not be stored")
			}
			d.history = nil
			r.begin(w, d.base(false))
			w.Append(d.commit())
			r.flush()
			wantLatest(t, m, d.last.Time, d.last)
			if left, err := r.spool.List(client); err != nil || len(left) > 0 {
				t.Fatalf("the spool still has %v, %v", left, err)
			}
		})
	}
}

// loseObject returns what removes from a spool the first object that matches,
// which is of the oldest generation that has one.
func loseObject(generation, object string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(dir, "objects", client, "generations", generation, filepath.FromSlash(object)))
		if err == nil && len(found) == 0 {
			err = fs.ErrNotExist
		}
		if err == nil {
			err = os.Remove(found[0])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A parent that was shipped by an earlier process is looked at before its fork is
// shipped: it may be gone from the store. When another writer has gone on in it,
// that is found out, and does not concern the fork.
func TestParentChangedWhileAway(t *testing.T) {
	cases := map[string]func(m *memory, d *database){
		"segment lost": func(m *memory, _ *database) {
			for _, k := range m.keys() {
				if strings.Contains(k, ".wal") {
					delete(m.objects, k)
				}
			}
		},
		"somebody went on": func(m *memory, d *database) {
			r := newRig(t, m, copyDir(t, d.dir), time.Microsecond)
			theirs := d.fork(30)
			w := r.open()
			w.Append(theirs.commit())
			r.flush()
			r.close()
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			m, dir, d := stopped(t, 4)
			d.dir = dir
			change(m, d)
			r := newRig(t, m, dir, time.Microsecond)
			w := r.open()
			r.fork(w, d, 3)
			if name == "segment lost" {
				if err := wait(t, r.broken); !errors.Is(err, generations.ErrBroken) || !errors.Is(w.Err(), generations.ErrBroken) {
					t.Fatalf("told %v, writer %v", err, w.Err())
				}
				return
			}
			r.flush()
			if err := w.Err(); err != nil {
				t.Fatal(err)
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
		})
	}
}

// A writer whose memory is behind the store, as after a power loss, cannot go on
// in the generation, and forks it where its memory ends.
func TestForkWhenStoreIsAhead(t *testing.T) {
	m, dir, d := stopped(t, 2)
	old := copyDir(t, dir)
	r := newRig(t, m, dir, time.Microsecond)
	w := r.open()
	w.Append(d.commit())
	r.flush()
	w.Append(d.commit())
	r.flush()
	r.close()

	r = newRig(t, m, old, time.Microsecond)
	w = r.open()
	past := resume(t, w)
	d.goBack(past.Mark.Txn.ID)
	lost := d.fork(95)
	lost.forking = false
	w.Append(lost.commit())
	wait(t, r.broken)
	past = resume(t, w)
	wantStates(t, past, d.history)
	if n := len(past.States); !past.Ended || n == 0 || past.States[n-1].ID != 3 {
		t.Fatalf("past %+v", past)
	}
	r.fork(w, d, 3)
	w.Append(d.commit())
	r.flush()
	wantHistory(t, m, nil, d.history)
	if n := m.count("put", ".snap"); n != 1 {
		t.Fatalf("%d images were put", n)
	}
}
