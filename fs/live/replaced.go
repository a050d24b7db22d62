package live

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// logReplaced finds out whether the name of the log still leads to the log that
// is open.
func (d *database) logReplaced() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase == idle {
		return
	}
	if d.log != nil && sameFile(d.log, d.file()+logSuffix) {
		d.logChanged()
		return
	}
	d.ending = d.logPages()
	d.closeLog()
	d.logEnded()
	d.ending = nil
}

// fileReplaced finds out whether the database is still the same file after an
// operation on its name or on a directory above it.
func (d *database) fileReplaced(op gateOp) {
	d.mu.Lock()
	st, err := os.Lstat(d.file())
	same := err == nil && d.stat != nil && os.SameFile(st, d.stat)
	if same && op == opTruncate {
		d.gateFile()
	}
	d.mu.Unlock()
	if same {
		return
	}
	if err := d.close(); err != nil {
		d.logger().Error("letting go of a database that was removed or renamed", "error", err)
	}
	d.set.mu.Lock()
	defer d.set.mu.Unlock()
	d.set.forget(d)
}

func sameFile(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(name)
	return err == nil && os.SameFile(a, b)
}

func isNotDir(err error) bool {
	return errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrNotExist)
}
