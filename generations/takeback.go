package generations

import "github.com/walback/walback/wal"

// TakeBack removes the transaction id, if it is the one appended last and is
// not saved: SQLite has overwritten a commit that nobody had learnt of. It
// returns false, and nothing has changed, when there is no such transaction any
// more because it was saved.
func (w *Writer) TakeBack(id wal.TXID) bool {
	w.saving.Lock() // so that what is in the queue is not being saved
	defer w.saving.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.queue) - 1
	if n < 0 || w.queue[n].ID != id {
		return false
	}
	g := w.current()
	w.queued -= rawBytes(w.queue[n])
	w.queue[n] = nil
	w.queue = w.queue[:n]
	g.last = g.mark.Txn
	if n > 0 {
		g.last = w.queue[n-1].TxnInfo
	}
	w.told(w.times.retract())
	return true
}
