package live

import (
	"fmt"

	"github.com/walback/walback/wal"
)

// A commit is taken from the log as soon as its frames are valid there, which
// is what SQLite's recovery goes by. SQLite itself tells the other processes
// only afterwards, in the wal-index. When its process is killed in between, or
// the fsync in between fails, nobody ever learns of the commit, and the next
// transaction is written over it. Then it has to be undone.

// undo is what is needed for that: what was in front of the commit, and which
// pages it changed.
type undo struct {
	at     wal.Position
	txn    wal.TxnInfo
	size   wal.Pgno // after the commit
	frames []wal.Frame
}

// maxUndo is how many pages a commit has at most that can be undone. A larger
// one would take memory for something that hardly ever happens: a fork does too.
const maxUndo = 1 << 16

// undoOf returns how to undo c, which is about to be taken over.
func (d *database) undoOf(c wal.Commit) *undo {
	if len(c.Frames) > maxUndo {
		return nil
	}
	return &undo{at: d.tracker.Position(), txn: d.last, size: c.Size, frames: c.Frames}
}

// overwritten deals with a write in front of the position. It changes nothing
// when the kernel has split the write of a page whose end was the same in the
// epoch before. Otherwise the last commit never was one. The caller holds d.mu.
func (d *database) overwritten() {
	same, err := d.tracker.Check(d.log)
	if err != nil {
		d.fail(err)
		return
	}
	if same {
		return
	}
	if d.phase == following && d.newest != nil {
		done, err := d.undo(d.newest)
		if err != nil {
			d.fail(err)
			return
		}
		if done {
			return
		}
	}
	d.logger().Warn("committed frames were overwritten")
	d.takeIn()
}

// undo takes the last commit back, or makes a transaction that does if it is
// saved already. It returns false when the log does not have what was in front
// of it. The caller holds d.mu.
func (d *database) undo(u *undo) (bool, error) {
	tracker := wal.NewTracker(u.at)
	if same, err := tracker.Check(d.log); err != nil || !same {
		return false, err
	}
	f, _, err := d.openFile()
	if err != nil {
		return false, err
	}
	defer f.Close() // only read
	src := source{log: d.log, file: f}
	frames, err := d.before(u, src)
	if err != nil {
		return false, err
	}
	d.sums.Apply(wal.Commit{Frames: frames, Size: u.txn.Size, PageSize: d.pageSize})
	if d.sums.Total() != u.txn.Checksum {
		return false, nil
	}
	d.tracker, d.newest = tracker, nil
	if d.sink.TakeBack(d.last.ID) {
		d.logger().Info("a commit was overwritten that nobody had learnt of; it is taken back", "transaction", d.last.ID)
		later := d.last.Time
		d.last = u.txn
		d.last.Time = later
		return true, nil
	}
	d.logger().Warn("a commit was overwritten that nobody had learnt of; a transaction undoes it", "transaction", d.last.ID)
	d.append(&wal.Txn{
		TxnInfo: wal.TxnInfo{Size: u.txn.Size, Pages: wal.Pgno(len(frames)), Checksum: d.sums.Total()},
		Frames:  frames,
		Source:  src,
		End:     u.at,
	})
	d.save() // while f is open
	return true, nil
}

// before returns the pages that a commit changed or dropped, as they were
// before it.
func (d *database) before(u *undo, src source) ([]wal.Frame, error) {
	over := newOverlay(u.txn.Size, d.pageSize)
	if err := d.layOver(over, wal.NewPageSums(d.pageSize), u.at); err != nil {
		return nil, err
	}
	var frames []wal.Frame
	page := make([]byte, d.pageSize)
	add := func(p wal.Pgno) error {
		f := over.frame(p, 0)
		if _, err := src.ReadAt(page, f.Off); err != nil {
			return fmt.Errorf("reading page %d as it was before a commit that is to be undone: %w", p, err)
		}
		f.Sum = wal.PageSum(p, page)
		frames = append(frames, f)
		return nil
	}
	for _, f := range u.frames {
		if f.Pgno > u.txn.Size {
			break
		}
		if err := add(f.Pgno); err != nil {
			return nil, err
		}
	}
	for p := u.size + 1; p <= u.txn.Size; p++ {
		if err := add(p); err != nil {
			return nil, err
		}
	}
	return frames, nil
}
