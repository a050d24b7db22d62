package live

import "github.com/walback/walback/wal"

// gateFile comes before a change of the main file. Only what is saved may be put
// there, by a checkpoint or without a log, because a restart compares the file
// with what was saved last. The caller holds d.mu.
func (d *database) gateFile() {
	if d.phase == idle {
		return
	}
	if d.unlooked {
		d.look()
	}
	d.save()
}

// gateLog comes before an operation that may take frames from the log. The
// caller holds d.mu.
func (d *database) gateLog(op gateOp) {
	if d.phase == idle && op == opLogRestart {
		d.takeIn()
		return
	}
	d.look()
	d.save()
}

// logWritten looks if the write may have completed a commit. The caller holds
// d.mu.
func (d *database) logWritten(off int64, p []byte) {
	commit := d.hint.Wrote(off, p)
	if d.phase == idle {
		return
	}
	d.unlooked = true
	if d.phase != broken && off < d.tracker.Position().Offset() && d.overwritten() {
		return
	}
	if commit {
		d.fruitless = 0
		d.look()
		return
	}
	d.lookSoon()
}

// overwritten deals with a write in front of the position, and returns true if
// it changed what is there: SQLite never learnt of committed frames (its process
// was killed between the commit frame and the wal-index) and writes others over
// them. It changes nothing when the kernel has split the write of a page whose
// end was the same in the epoch before. The caller holds d.mu.
func (d *database) overwritten() bool {
	same, err := d.tracker.Check(d.log)
	if err != nil {
		d.fail(err)
		return true
	}
	if same {
		return false
	}
	d.logger().Warn("committed frames were overwritten; a new generation begins")
	d.begin()
	return true
}

// logChanged finds out what an operation on the open log has left of it. The
// caller holds d.mu.
func (d *database) logChanged() {
	if d.tracker == nil || d.log == nil {
		return
	}
	same, err := d.tracker.Check(d.log)
	if err != nil {
		d.fail(err)
		return
	}
	if !same {
		d.logEnded()
	}
}

// checkpointed notes what a checkpoint wrote to the main file. The caller holds
// d.mu.
func (d *database) checkpointed(off int64, b []byte) {
	if d.phase != following {
		return
	}
	p := wal.Pgno(off/int64(d.pageSize)) + 1
	if off%int64(d.pageSize) != 0 || len(b) != d.pageSize {
		// The kernel split the write: what was known of these pages is no more true.
		for last := wal.Pgno((off+int64(len(b))-1)/int64(d.pageSize)) + 1; p <= last; p++ {
			delete(d.copied, p)
		}
		return
	}
	if d.copied == nil {
		d.copied = make(map[wal.Pgno]wal.Checksum)
	}
	d.copied[p] = wal.PageSum(p, b)
}

// uncaptured returns a page that a checkpoint has put into the file, and that is
// not as it was captured, or zero. It is called when the whole log has been
// copied and all of it was looked at. SQLite before 3.41 can commit frames that
// are not part of the chain of checksums (a transaction that spilled, wrote a
// page again, and went back to a savepoint): no reader of the log finds them,
// not even SQLite's recovery. The caller holds d.mu.
func (d *database) uncaptured() wal.Pgno {
	if d.phase != following {
		return 0
	}
	for p, sum := range d.copied {
		if p <= d.sums.Size() && d.sums.At(p) != sum {
			return p
		}
	}
	return 0
}
