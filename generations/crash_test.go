package generations_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walback/walback/generations"
)

// copyDir returns a copy of a spool as a killed process would have left it.
func copyDir(t testing.TB, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// crash is what is left at one moment: a spool, a store, and what had been
// committed and saved by then.
type crash struct {
	when    string
	dir     string
	store   *memory
	history []instant
}

// A process is killed before and after every Put, and between what follows one:
// the state file and the removal of pieces. The next one ships all that had
// been saved, nothing twice, and goes on.
func TestCrashAtEveryStep(t *testing.T) {
	m := newMemory()
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(6, 512)
	var still sync.Mutex // held while d changes and while the moment is recorded
	var crashes []crash
	record := func(when string) func(call) error {
		return func(c call) error {
			if c.op == "put" {
				still.Lock()
				defer still.Unlock()
				crashes = append(crashes, crash{when + " put " + c.key, copyDir(t, r.dir), m.clone(), slices.Clone(d.history)})
			}
			return nil
		}
	}
	m.hook(record("before"), record("after"))
	for epoch := range 5 {
		still.Lock()
		switch epoch {
		case 0, 2:
			r.begin(w, d.base(epoch == 2))
		default:
			r.fork(w, d, d.last.ID-3) // in the middle of a segment, or of pieces
		}
		still.Unlock()
		for n := range 5 {
			still.Lock()
			w.Append(d.commit())
			if err := w.Save(); err != nil {
				t.Fatal(err)
			}
			still.Unlock()
			if n%2 == 1 {
				r.flush()
			}
		}
	}
	r.close()
	crashes = append(crashes, crash{"after all", r.dir, m.clone(), d.history})
	for i, c := range crashes[:len(crashes)-1] {
		if next := crashes[i+1]; strings.HasPrefix(c.when, "after") { // the state was written next
			mixed := crash{"state written " + c.when, copyDir(t, c.dir), c.store.clone(), c.history}
			overlayState(t, next.dir, mixed.dir)
			if next.history[len(next.history)-1].epoch == c.history[len(c.history)-1].epoch {
				crashes = append(crashes, mixed)
			}
		}
	}
	if len(crashes) < 20 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for _, c := range crashes {
		t.Run(c.when, func(t *testing.T) { c.recover(t, d) })
	}
}

// overlayState copies the state files of one spool over those of another.
func overlayState(t *testing.T, from, to string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(from, "state", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal("no state files: ", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, "state", filepath.Base(f)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// recover starts on what the crash left, ships it, and goes on.
func (c crash) recover(t *testing.T, before *database) {
	r := newRig(t, c.store, c.dir, time.Microsecond)
	w := r.open()
	last := c.history[len(c.history)-1]
	past, ok := w.Resume()
	mark := past.Mark
	if !ok || past.Ended || mark.Txn.ID != last.ID || mark.Txn.Time != last.Time {
		t.Fatalf("resumes at %+v, %v; want %+v", mark.Txn, ok, last.TxnInfo)
	}
	wantStates(t, past, c.history)
	if n := len(past.States); last.content != nil && (n == 0 || past.States[n-1] != last.TxnInfo) {
		t.Fatalf("%d states, of %+v the last; want %+v", n, past.States[max(n-1, 0):], last.TxnInfo)
	}
	r.flush()
	if last.content != nil { // a fuzzy image alone has no views
		wantHistory(t, c.store, nil, c.history)
	}
	d := before.fork(7)
	d.history, d.last = append([]instant(nil), c.history...), last.TxnInfo
	d.pages = d.pages[:0]
	for range last.Size {
		d.pages = append(d.pages, make([]byte, d.pageSize))
	}
	all := make([]int, last.Size)
	for i := range all {
		all[i] = i
	}
	w.Append(d.write(all))
	r.flush()
	wantHistory(t, c.store, nil, d.history)
	if left, err := r.spool.List(client); err != nil || len(left) > 0 {
		t.Fatalf("the spool still has %v, %v", left, err)
	}
}

// What a killed Begin has left is not taken for a generation.
func TestKilledBegin(t *testing.T) {
	m := newMemory()
	m.hook(func(call) error { return errDown }, nil)
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(8, 512)
	r.begin(w, d.base(false))
	w.Append(d.commit())
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	kept := copyDir(t, r.dir)
	fork := d.fork(9)
	r.begin(w, fork.base(false))
	later := copyDir(t, r.dir)
	r.close()
	overlayState(t, kept, later) // the image is there, the state file is not

	r = newRig(t, newMemory(), later, time.Microsecond)
	if past, ok := r.open().Resume(); !ok || past.Ended || past.Mark.Txn != d.last {
		t.Fatalf("resumes at %+v, %v", past, ok)
	}
	for o, err := range objects(r.spool) {
		if err != nil || o.Generation != r.shipper.Status()[0].Generation {
			t.Fatalf("left over: %v, %v", o, err)
		}
	}
}

func objects(sp *generations.Spool) func(func(generations.PlanObject, error) bool) {
	return func(yield func(generations.PlanObject, error) bool) {
		all, err := sp.List(client)
		if err != nil {
			yield(generations.PlanObject{}, err)
		}
		for _, o := range all {
			if !yield(o, nil) {
				return
			}
		}
	}
}

// A power loss leaves files empty or gone; that costs a generation at most.
func TestPowerLoss(t *testing.T) {
	damage := map[string]func(path string) error{
		"gone":  os.Remove,
		"empty": func(path string) error { return os.Truncate(path, 0) },
		"zeros": func(path string) error {
			st, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, make([]byte, st.Size()), 0o600)
		},
	}
	for kind, spoil := range damage {
		for n := range 8 {
			t.Run(fmt.Sprintf("%s/%d", kind, n), func(t *testing.T) { powerLoss(t, n, spoil) })
		}
	}
}

// powerLoss spoils the n-th file of a spool that has everything in it yet.
func powerLoss(t *testing.T, n int, spoil func(string) error) {
	m := newMemory()
	m.hook(func(call) error { return errDown }, nil)
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(10, 512)
	r.begin(w, d.base(false))
	for range 4 {
		w.Append(d.commit())
		if err := w.Save(); err != nil {
			t.Fatal(err)
		}
	}
	dir := copyDir(t, r.dir)
	r.close()
	var files []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Size() > 0 && filepath.Dir(path) != dir {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) != 8 { // manifest, snapshot, four pieces, state, states
		t.Fatalf("files %v, %v", files, err)
	}
	if err := spoil(files[n]); err != nil {
		t.Fatal(err)
	}
	m.hook(nil, nil)
	r = newRig(t, m, dir, time.Microsecond)
	w = r.open()
	past, ok := w.Resume()
	wantStates(t, past, d.history)
	if len(past.States) == 0 && ok && !past.Ended {
		t.Fatalf("no state of transaction %d", past.Mark.Txn.ID)
	}
	if err := r.shipper.Flush(t.Context()); err != nil && !errors.Is(w.Err(), generations.ErrBroken) {
		t.Fatal(err)
	}
	if ok && w.Err() == nil {
		wantHistory(t, m, nil, d.history[:past.Mark.Txn.ID])
	}
	// Whatever was lost, a new generation can begin and history is good.
	after := d.fork(11)
	after.history = nil
	r.begin(w, after.base(false))
	after.history[0].epoch = 0
	w.Append(after.commit())
	r.flush()
	tl, err := generations.OpenTimeline(t.Context(), client, m, nil, packs{m, nil})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := tl.At(t.Context(), generations.Latest(), after.last.Time)
	if err != nil || plan.Txn != after.last {
		t.Fatalf("latest is %+v, %v", plan.Txn, err)
	}
	if left, err := r.spool.List(client); err != nil || len(left) > 0 {
		t.Fatalf("the spool still has %v, %v", left, err)
	}
}
