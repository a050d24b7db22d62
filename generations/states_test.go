package generations_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/walback/walback/wal"
)

// wantStates makes sure that the states of past are of transactions of history's
// last epoch, without a gap, and are the databases that these left.
func wantStates(t *testing.T, past wal.Past, history []instant) {
	t.Helper()
	for i, txn := range past.States {
		if i > 0 && txn.ID != past.States[i-1].ID+1 {
			t.Fatalf("a state of transaction %d behind one of %d", txn.ID, past.States[i-1].ID)
		}
		k := slices.IndexFunc(history, func(h instant) bool { return h.TxnInfo == txn })
		if k < 0 {
			t.Fatalf("a state of %+v, which was never committed", txn)
		}
		sums, err := past.Sums(txn.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := wal.NewPageSums(past.Mark.PageSize)
		p := wal.Pgno(1)
		for page := range slices.Chunk(history[k].content, past.Mark.PageSize) {
			want.Set(p, wal.PageSum(p, page))
			p++
		}
		if sums.Size() != want.Size() || sums.Total() != want.Total() {
			t.Fatalf("transaction %d: %d pages with checksum %s, want %d with %s", txn.ID, sums.Size(), sums.Total(), want.Size(), want.Total())
		}
		for p := range want.Size() {
			if sums.At(p+1) != want.At(p+1) {
				t.Fatalf("transaction %d: page %d has another checksum", txn.ID, p+1)
			}
		}
	}
}

// resume returns what w has kept.
func resume(t *testing.T, w interface{ Resume() (wal.Past, bool) }) wal.Past {
	t.Helper()
	past, ok := w.Resume()
	if !ok {
		t.Fatal("nothing is kept")
	}
	return past
}

// statesFile returns the path of the states of the only client in dir.
func statesFile(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "states", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("states %v, %v", files, err)
	}
	return files[0]
}

// The states of an exact image, and of a fuzzy one once a transaction has made it
// exact, are kept up to the last transaction, across restarts, in a file that
// stays small.
func TestStates(t *testing.T) {
	for name, fuzzy := range map[string]bool{"exact": false, "fuzzy": true} {
		t.Run(name, func(t *testing.T) {
			dir, m := t.TempDir(), newMemory()
			r := newRig(t, m, dir, time.Microsecond)
			w, d := r.open(), newDatabase(80, 512)
			r.begin(w, d.base(fuzzy))
			if n := len(resume(t, w).States); fuzzy == (n > 0) {
				t.Fatalf("%d states of the image alone", n)
			}
			first := wal.TXID(1)
			if fuzzy {
				first = 2
			}
			for round := range 4 {
				r.workload(w, d, 10)
				past := resume(t, w)
				wantStates(t, past, d.history)
				if n := len(past.States); past.States[0].ID != first || past.States[n-1] != d.last || past.Mark.Txn != d.last || past.Ended {
					t.Fatalf("round %d: states from %d to %d of %d", round, past.States[0].ID, past.States[n-1].ID, d.last.ID)
				}
				r.close()
				r = newRig(t, m, dir, time.Microsecond)
				w = r.open()
			}
		})
	}
}

// What is kept is bounded: by the database's size, and by some thousand
// transactions of a small one.
func TestStatesAreCompacted(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, newMemory(), dir, time.Hour)
	w, d := r.open(), newDatabase(81, 512)
	r.begin(w, d.base(false))
	for n := range 24_000 {
		w.Append(d.write([]int{0, n % len(d.pages)}[:1+min(1, n%len(d.pages))]))
		if n%100 == 99 {
			if err := w.Save(); err != nil {
				t.Fatal(err)
			}
		}
	}
	past := resume(t, w)
	if n := len(past.States); n < 2000 || n > 16_000 || past.States[n-1] != d.last {
		t.Fatalf("%d states", n)
	}
	past.States = slices.Concat(past.States[:3], past.States[len(past.States)-3:])
	for _, txn := range past.States {
		sums, err := past.Sums(txn.ID)
		if err != nil || sums.Total() != txn.Checksum {
			t.Fatalf("transaction %d: %v", txn.ID, err)
		}
	}
	st, err := os.Stat(statesFile(t, dir))
	if err != nil || st.Size() > 1600<<10 {
		t.Fatalf("%d bytes of states, %v", st.Size(), err)
	}
	if _, err := past.Sums(2); err == nil {
		t.Fatal("a state of a transaction that is not kept")
	}
}

// A file that is cut short, or damaged anywhere, shows fewer states or none, and
// never a wrong one.
func TestDamagedStates(t *testing.T) {
	m := newMemory()
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(82, 512)
	r.begin(w, d.base(false))
	r.workload(w, d, 6)
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	r.flush()
	dir := copyDir(t, r.dir)
	whole, err := os.ReadFile(statesFile(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	r.close()
	check := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(statesFile(t, dir), b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := newRig(t, m, dir, time.Microsecond)
		wantStates(t, resume(t, r.open()), d.history)
		r.close()
	}
	for n := 0; n < len(whole); n += 97 {
		check(whole[:n])
		b := bytes.Clone(whole)
		b[n] ^= 0x40
		check(b)
	}
}

// A fork from where the states end has states again.
func TestStatesOfFork(t *testing.T) {
	m, dir, d := stopped(t, 9)
	file := statesFile(t, dir)
	st, err := os.Stat(file)
	if err == nil {
		err = os.Truncate(file, st.Size()/2)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r := newRig(t, m, dir, time.Microsecond)
		w := r.open()
		past := resume(t, w)
		wantStates(t, past, d.history)
		n := len(past.States)
		if n == 0 || past.States[n-1] == past.Mark.Txn {
			t.Fatalf("%d states of %d", n, past.Mark.Txn.ID)
		}
		w.Append(d.commit()) // of which there cannot be a state
		r.fork(w, d, past.States[n-1].ID)
		w.Append(d.commit())
		past = resume(t, w)
		wantStates(t, past, d.history)
		if past.States[len(past.States)-1] != d.last {
			t.Fatalf("states up to %d of %d", past.States[len(past.States)-1].ID, d.last.ID)
		}
		r.flush()
		wantHistory(t, m, nil, d.history)
		r.close()
		if err := os.Truncate(file, st.Size()/2); err != nil {
			t.Fatal(err)
		}
	}
}

// States of transactions that a power loss took, and which others have taken the
// place of, are not taken for theirs.
func TestStatesOfWhatWasLost(t *testing.T) {
	m := newMemory()
	m.hook(putsFail, nil)
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(84, 512)
	r.begin(w, d.base(false))
	for range 5 {
		w.Append(d.commit())
		if err := w.Save(); err != nil {
			t.Fatal(err)
		}
	}
	dir := copyDir(t, r.dir)
	r.close()
	for _, id := range []int{6, 5} {
		loseObject("*", fmt.Sprintf("wal/*%d.piece", id))(t, dir)
	}
	d.goBack(4)
	d.forking = false
	d.history = d.history[:4]
	r = newRig(t, m, dir, time.Microsecond)
	w = r.open()
	wantStates(t, resume(t, w), d.history)
	w.Append(d.commit())
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	// This one has no state, because the file is elsewhere for a moment.
	file := statesFile(t, dir)
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	w.Append(d.commit())
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	past := resume(t, w)
	wantStates(t, past, d.history)
	if n := len(past.States); past.Mark.Txn.ID != 6 || past.States[n-1].ID != 5 {
		t.Fatalf("states up to %d of %d", past.States[n-1].ID, past.Mark.Txn.ID)
	}
}

// When states cannot be written, capture goes on; there are none until the next
// generation.
func TestStatesCannotBeWritten(t *testing.T) {
	r := newRig(t, newMemory(), t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(83, 512)
	r.begin(w, d.base(false))
	if err := os.Remove(statesFile(t, r.dir)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.Append(d.commit())
		if err := w.Save(); err != nil {
			t.Fatal(err)
		}
	}
	if past := resume(t, w); past.Ended || len(past.States) > 0 {
		t.Fatalf("states %v, ended %v", past.States, past.Ended)
	}
	r.begin(w, d.base(false))
	w.Append(d.commit())
	past := resume(t, w)
	wantStates(t, past, d.history)
	if len(past.States) != 2 {
		t.Fatalf("states %v", past.States)
	}
	r.flush()
	wantHistory(t, r.store, nil, d.history)
}
