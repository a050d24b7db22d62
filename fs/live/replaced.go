package live

import "os"

// logReplaced finds out whether the name of the log still leads to the log that
// is open. The caller holds d.mu.
func (d *database) logReplaced() {
	switch d.phase {
	case idle:
		return
	case resting:
		d.wake()
		return
	}
	if d.log != nil && !d.logGone() {
		d.logChanged()
		return
	}
	d.ending = d.logPages()
	d.closeLog()
	d.logEnded()
	d.ending = nil
	d.look() // another one may be there, with commits in it
}

// logGone reports whether the log that is open is not the one that is there.
func (d *database) logGone() bool { return d.log != nil && !sameFile(d.log, d.logFile()) }

func sameFile(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(name)
	return err == nil && os.SameFile(a, b)
}
