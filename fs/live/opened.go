package live

import "github.com/walback/walback/wal"

// fileWatch watches a handle of a main database file, or of any file that may
// become one.
type fileWatch struct {
	d       *database
	written bool // through this handle; d.mu guards it
}

// logWatch watches a handle of a log.
type logWatch struct{ d *database }

// Gate implements watch. The lock is held until Done, so that nobody looks
// while the file changes.
func (w *fileWatch) Gate(gateOp) {
	w.d.mu.Lock()
	w.written = true
	w.d.gateFile()
}

// Done implements watch.
func (w *fileWatch) Done(op gateOp) {
	defer w.d.mu.Unlock()
	if op != opWrite {
		w.d.resized(op)
	}
}

// Written implements watch. It comes between Gate and Done, so the lock is held.
func (w *fileWatch) Written(off int64, p []byte) { w.d.touch(off, p) }

// Released implements watch. A database that was copied into the mount is
// followed from here on, though no connection was opened yet.
func (w *fileWatch) Released() {
	w.d.mu.Lock()
	written := w.written
	w.d.mu.Unlock()
	if written {
		w.d.set.consider(w.d.path)
	}
	w.d.set.released(w.d)
}

// Gate implements watch. The lock is held until Done.
func (w *logWatch) Gate(op gateOp) {
	w.d.mu.Lock()
	w.d.gateLog(op)
}

// Done implements watch.
func (w *logWatch) Done(op gateOp) {
	defer w.d.mu.Unlock()
	w.d.logChanged()
}

// Written implements watch. A write that begins within the header comes
// between Gate and Done, so the lock is held already.
func (w *logWatch) Written(off int64, p []byte) {
	d := w.d
	if off < wal.HeaderSize {
		d.hint.Wrote(off, p)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logWritten(off, p)
}

// Released implements watch.
func (w *logWatch) Released() { w.d.set.released(w.d) }

// journalWatch watches a handle of a rollback journal.
type journalWatch struct{ d *database }

// Gate implements watch. The lock is held until Done.
func (w *journalWatch) Gate(gateOp) { w.d.mu.Lock() }

// Done implements watch.
func (w *journalWatch) Done(gateOp) {
	defer w.d.mu.Unlock()
	w.d.journalChanged()
}

// Written implements watch. What is in the journal does not matter.
func (w *journalWatch) Written(int64, []byte) {}

// Released implements watch.
func (w *journalWatch) Released() { w.d.set.released(w.d) }
