package generations_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/walback/walback/wal"
)

// unsaved returns a spool as a killed process has left it when the store had a
// commit and n more were appended behind it and not saved; and these.
func unsaved(t *testing.T, m *memory, n int) (dir string, d *database, txns []wal.Txn) {
	t.Helper()
	r := newRig(t, m, t.TempDir(), time.Hour)
	w, d := r.open(), newDatabase(40, 512)
	r.begin(w, d.base(false))
	w.Append(d.commit())
	r.flush()
	r.stop()
	for range n {
		txn := d.commit()
		w.Append(txn)
		txns = append(txns, *txn)
	}
	dir = copyDir(t, r.dir)
	r.close()
	return dir, d, txns
}

// stop keeps the shipper from saving what is appended.
func (r *rig) stop() {
	r.t.Helper()
	if err := r.shipper.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// later is txn as a process finds it in the log that is started after another
// one was killed: by its own clock, whatever that is.
func later(txn wal.Txn, clock wal.Time) *wal.Txn {
	txn.Time = clock
	return &txn
}

// What was committed and not saved before a process was killed keeps its time,
// through as many kills as there are.
func TestTimesOutliveProcess(t *testing.T) {
	m := newMemory()
	dir, d, txns := unsaved(t, m, 5)
	for kill := range 3 {
		r := newRig(t, m, dir, time.Hour)
		w := r.open()
		r.stop()
		past, ok := w.Resume()
		if mark := past.Mark; !ok || mark.Txn.ID != txns[0].ID-1 {
			t.Fatalf("resumes at %+v, %v", past.Mark, ok)
		}
		for i := range txns[:2+kill] { // it is killed again before it has got to the end
			again := later(txns[i], txns[4].Time+wal.Time(1000*kill+i))
			w.Append(again)
			if again.Time != txns[i].Time {
				t.Fatalf("start %d: transaction %d has the time %s, want %s", kill, again.ID, again.Time, txns[i].Time)
			}
		}
		dir = copyDir(t, dir)
		r.close()
	}
	r := newRig(t, m, dir, time.Microsecond)
	w := r.open()
	for i := range txns {
		w.Append(later(txns[i], txns[i].Time-1)) // a clock that was set back
	}
	w.Append(d.commit())
	r.flush()
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
	wantHistory(t, m, nil, d.history)
	if b, err := os.ReadFile(timesFile(t, dir)); err != nil || len(b) > 0 {
		t.Errorf("the times of what is stored are kept: %d bytes, %v", len(b), err)
	}
}

// timesFile returns the only file of times in a spool.
func timesFile(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "times", "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("files of times: %q, %v", found, err)
	}
	return found[0]
}

// A record that is damaged, torn, or of another transaction is not believed: the
// transaction has its own time, and so have those behind it.
func TestTimesNotBelieved(t *testing.T) {
	const record = 36
	for name, damage := range map[string]func(b []byte) []byte{
		"none":         func([]byte) []byte { return nil },
		"torn":         func(b []byte) []byte { return b[:record-1] },
		"damaged":      func(b []byte) []byte { b[18] ^= 1; return b },
		"shifted":      func(b []byte) []byte { return b[1:] },
		"zeros":        func(b []byte) []byte { return make([]byte, len(b)) },
		"first missed": func(b []byte) []byte { return b[record:] },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			dir, d, txns := unsaved(t, m, 3)
			file := timesFile(t, dir)
			b, err := os.ReadFile(file)
			if err != nil || len(b) != len(txns)*record {
				t.Fatalf("%d bytes of times, %v", len(b), err)
			}
			if err := os.WriteFile(file, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			restart(t, m, dir, d, txns)
		})
	}
	t.Run("another transaction", func(t *testing.T) {
		m := newMemory()
		dir, d, txns := unsaved(t, m, 3)
		at := len(d.history) - len(txns)
		txns[0].Checksum++ // not what the record is of
		d.history[at].Checksum++
		d.history[at].content = nil // nothing to show has that checksum
		r := newRig(t, m, dir, time.Microsecond)
		w := r.open()
		for i := range txns {
			again := later(txns[i], txns[2].Time+wal.Time(i+1))
			w.Append(again)
			if again.Time != txns[2].Time+wal.Time(i+1) {
				t.Errorf("transaction %d has a time that is not its own: %s", again.ID, again.Time)
			}
		}
	})
}

// restart appends transactions again, which must keep the times they come with.
func restart(t *testing.T, m *memory, dir string, d *database, txns []wal.Txn) {
	t.Helper()
	r := newRig(t, m, dir, time.Microsecond)
	w := r.open()
	at := len(d.history) - len(txns)
	d.history = slices.Clone(d.history)
	for i := range txns {
		clock := txns[len(txns)-1].Time + wal.Time(i+1)
		w.Append(later(txns[i], clock))
		d.history[at+i].Time = clock
	}
	r.flush()
	wantHistory(t, m, nil, d.history)
}
