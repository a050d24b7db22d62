package live

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/walback/walback/wal"
)

// What was captured is compared with the files from time to time: whoever
// writes to them past the mount, and a disk that forgets, would otherwise be
// found out only when something is restored.
const (
	// verifyEvery is how often databases that have changed are verified.
	verifyEvery = time.Hour
	// verifyAll is after how long one that has not is.
	verifyAll = 24 * time.Hour
	// verifyRate is how many bytes a second are read for it.
	verifyRate = 16 << 20
)

// verifyForever verifies databases, one at a time, until ctx ends.
func (s *set) verifyForever(ctx context.Context) {
	tick := time.NewTicker(verifyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		rested := 0
		for _, d := range s.below("") {
			if !d.verifyDue(time.Now()) {
				continue
			}
			woken := d.wakeToVerify()
			d.verify(ctx, verifyRate)
			if woken {
				rested += s.putToRest([]*database{d}, false)
			}
		}
		if rested > 0 {
			s.rememberOrSay()
		}
	}
}

// wakeToVerify wakes the database if it rests, and reports whether it did.
func (d *database) wakeToVerify() bool {
	defer d.set.Names(false)()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase != resting {
		return false
	}
	d.wake()
	return true
}

// verified is what is known of a comparison of the file with what was captured.
type verified struct {
	txn wal.TXID
	at  time.Time
}

func (d *database) verifyDue(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch d.phase {
	case following:
		return d.verified.txn != d.last.ID || now.Sub(d.verified.at) > verifyAll
	case resting:
		return now.Sub(d.rested.Verified) > verifyAll
	}
	return false
}

// verify compares the file with what was captured, reading at most rate bytes a
// second. What differs and is not explained by the log is reported, and begins
// a new generation. It reads without holding anything up; pages that change
// meanwhile are looked at again at the end.
func (d *database) verify(ctx context.Context, rate int) {
	d.mu.Lock()
	if d.phase != following {
		d.mu.Unlock()
		return
	}
	txn, sums, size := d.last.ID, d.sums, d.sums.Size()
	f, err := os.Open(d.file())
	d.mu.Unlock()
	if err != nil {
		d.logger().Warn("cannot be verified", "error", err)
		return
	}
	defer f.Close() // only read
	var doubtful []wal.Pgno
	began, read := time.Now(), 0
	for p, err := range filePageSeq(ctx, f, sums.PageSize(), size) {
		if err != nil {
			if ctx.Err() == nil {
				d.logger().Error("the database cannot be read to be verified", "error", err)
			}
			return
		}
		if sum := wal.PageSum(p.Pgno, p.Data); !d.captured(sums, p.Pgno, sum) {
			doubtful = append(doubtful, p.Pgno)
		}
		if read += len(p.Data); read%(1<<20) < len(p.Data) && !sleep(ctx, time.Duration(read)*time.Second/time.Duration(rate)-time.Since(began)) {
			return
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase == following && d.sums == sums && d.settleDoubts(doubtful) {
		d.verified = verified{txn, time.Now()}
	}
}

// sleep returns after a while, or false when ctx has ended.
func sleep(ctx context.Context, t time.Duration) bool {
	if t <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(t):
		return true
	}
}

// captured reports whether page p was captured with the checksum sum. It is
// true, too, when capture has begun again since it had these sums.
func (d *database) captured(sums *wal.PageSums, p wal.Pgno, sum wal.Checksum) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sums != sums || sums.At(p) == sum
}

// settleDoubts looks at pages again that were not in the file as they were
// captured, and returns false if it can not tell yet. The caller holds d.mu.
func (d *database) settleDoubts(doubtful []wal.Pgno) bool {
	sums := d.sums
	d.look()
	if d.phase != following || d.sums != sums || len(d.touched) > 0 || d.rescan {
		return false // somebody is writing to the file without a log
	}
	logged := d.logPages()
	doubtful = slices.DeleteFunc(doubtful, func(p wal.Pgno) bool {
		_, found := slices.BinarySearch(logged, p)
		return found || p > sums.Size()
	})
	p, err := d.uncopiedOf(doubtful)
	if err != nil {
		d.fail(err)
		return false
	}
	if p == 0 {
		return true
	}
	if txn := d.last.ID; d.passed() {
		if d.look(); d.phase != following || d.last.ID != txn {
			return false // written while it was read
		}
	}
	d.logger().Error("the database file is not what was captured: something has written to it past the mount, or the disk is damaged; run PRAGMA integrity_check. A new generation begins with what is there",
		"page", p, "pages in doubt", len(doubtful), "file", d.file(), "captured", fmt.Sprintf("transaction %d", d.last.ID))
	d.takeIn()
	return false
}
