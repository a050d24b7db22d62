package generations_test

import (
	"slices"
	"testing"
	"time"

	"github.com/walback/walback/wal"
)

// undo makes d what it was before its last commit.
func (d *database) undo(pages [][]byte) {
	d.pages = pages
	d.history = d.history[:len(d.history)-1]
	d.last = d.history[len(d.history)-1].TxnInfo
}

// A transaction that is taken back leaves nothing: not in the history, nor in
// the times that outlive the process.
func TestTakeBack(t *testing.T) {
	m := newMemory()
	r := newRig(t, m, t.TempDir(), time.Hour)
	w, d := r.open(), newDatabase(70, 512)
	r.begin(w, d.base(false))
	r.flush()
	r.stop()
	first := d.commit()
	w.Append(first)
	pages := slices.Clone(d.pages)
	w.Append(d.commit())
	if w.TakeBack(first.ID) || w.TakeBack(d.last.ID+1) {
		t.Fatal("took back what is not the last one")
	}
	if !w.TakeBack(d.last.ID) {
		t.Fatal("not taken back")
	}
	d.undo(pages)
	second, third := d.commit(), d.commit()
	w.Append(second)
	w.Append(third)
	killed := copyDir(t, r.dir)
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	if w.TakeBack(third.ID) {
		t.Fatal("took back what is saved")
	}
	r.close()

	again := newRig(t, m, killed, time.Microsecond)
	w = again.open()
	for _, txn := range []*wal.Txn{first, second, third} {
		w.Append(later(*txn, third.Time+wal.Time(txn.ID)))
	}
	again.flush()
	wantHistory(t, m, nil, d.history)
}
