package live

// gateFile comes before a change of the main file. Only what is saved may be put
// there, by a checkpoint or without a log, because a restart compares the file
// with what was saved last. The caller holds d.mu.
func (d *database) gateFile(op gateOp) {
	if d.phase == idle {
		return
	}
	if d.unlooked || d.logs.Load() > 0 {
		d.look()
	}
	if op == opTruncate && d.tracker != nil {
		d.lookUnindexed()
		if !d.unlooked {
			d.tracker.Copied()
		}
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
	if op == opTruncate {
		d.ending = d.logPages()
	}
}

// logWritten looks if the write may have completed a commit. The caller holds
// d.mu.
func (d *database) logWritten(off int64, p []byte) {
	commit := d.hint.Wrote(off, p)
	if d.phase == idle {
		return
	}
	d.unlooked = true
	if d.phase != broken && off < d.tracker.Position().Offset() {
		d.overwritten()
	}
	if commit {
		d.fruitless = 0
		d.look()
		return
	}
	d.lookSoon()
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
	d.ending = nil
}
