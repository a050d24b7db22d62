package live

import (
	"context"
	"iter"
	"os"

	"github.com/walback/walback/wal"
)

// imaging is a database that is being read in the background, without any lock
// in the application's database. What is committed meanwhile (and what lay in
// the log when it began) is dirty: the file may have been read before or after
// a checkpoint put it there.
//
// It is read to make a base image of it, or only to compare it with its past, so
// that what differs is enough.
type imaging struct {
	past   *wal.Past // to compare with; nil: it is for a base image
	cancel context.CancelFunc
	done   chan struct{} // closed when it is read, and the sink is through with it
	ended  chan struct{} // closed when it is exact, or given up
	dirty  *overlay
	// settled is sent to when a transaction without a log has ended: the image
	// cannot end in the middle of one.
	settled chan struct{}
}

func (im *imaging) commit(c wal.Commit) { im.dirty.commit(c) }

// serving reports whether applications may be using the databases already.
func (s *set) serving() bool { return s.dir.Load() != nil }

// startSurvey reads the database, of which size pages count in the file, to
// compare it with its past. The caller holds d.mu.
func (d *database) startSurvey(size wal.Pgno, past wal.Past) error {
	over, err := d.wholeLog(size)
	if err != nil {
		return err
	}
	return d.startReading(size, over, &past)
}

// startReading starts to read the database. The caller holds d.mu; size is that
// of the file, over what the log lays over it.
func (d *database) startReading(size wal.Pgno, over *overlay, past *wal.Past) error {
	f, err := os.Open(d.file())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	im := &imaging{
		past: past, cancel: cancel, done: make(chan struct{}), ended: make(chan struct{}), dirty: over,
		settled: make(chan struct{}, 1),
	}
	d.image, d.phase = im, reading
	mark := wal.Mark{
		Txn:      wal.TxnInfo{ID: 1, Time: d.now(), Size: size, Pages: size},
		PageSize: d.pageSize,
		Log:      d.tracker.Position(),
	}
	go d.read(ctx, im, f, mark)
	return nil
}

// read reads the database, and begins the generation when that is done.
func (d *database) read(ctx context.Context, im *imaging, f *os.File, mark wal.Mark) {
	defer close(im.ended)
	defer im.cancel()
	defer f.Close()
	sums := wal.NewPageSums(mark.PageSize)
	pages := func(yield func(wal.Page, error) bool) {
		for p, err := range filePageSeq(ctx, f, mark.PageSize, mark.Txn.Size) {
			if err == nil {
				sums.Set(p.Pgno, wal.PageSum(p.Pgno, p.Data))
			}
			if !yield(p, err) {
				return
			}
		}
	}
	var err error
	if im.past == nil {
		err = d.sink.Begin(wal.Base{Mark: mark, Fuzzy: true, Pages: pages})
	} else {
		for _, err = range pages {
			if err != nil {
				break
			}
		}
	}
	close(im.done)
	for !d.tryEndReading(im, f, mark, sums, err) {
		select {
		case <-im.settled:
		case <-ctx.Done():
			return
		}
	}
}

// tryEndReading begins the generation, unless a transaction without a log is
// under way: then it returns false. err is what the reading came to.
func (d *database) tryEndReading(im *imaging, f *os.File, mark wal.Mark, sums *wal.PageSums, err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.image != im {
		return true // given up meanwhile
	}
	if err != nil {
		d.fail(err)
		return true
	}
	d.look()
	if d.image != im {
		return true
	}
	if len(d.touched) > 0 || d.rescan {
		return false
	}
	d.image = nil
	im.dirty.apply(sums)
	if im.past != nil {
		d.endSurvey(im, f, mark.Txn.Size, sums)
	} else {
		d.endImage(im, f, mark, sums)
	}
	return true
}

// endImage appends the transaction that makes the image exact. The caller
// holds d.mu and has just looked.
func (d *database) endImage(im *imaging, f *os.File, mark wal.Mark, sums *wal.PageSums) {
	d.follow(sums, mark.Txn)
	d.appendRead(im.dirty.sorted(), sums, f)
	d.imaged = d.last.ID
	d.logger().Info("a new generation begins", "pages", d.last.Size, "checksum", d.last.Checksum, "committed while reading", d.last.Pages)
}

// appendRead appends a transaction of what was found by reading.
func (d *database) appendRead(frames []wal.Frame, sums *wal.PageSums, f *os.File) {
	d.append(&wal.Txn{
		TxnInfo: wal.TxnInfo{Size: sums.Size(), Pages: wal.Pgno(len(frames)), Checksum: sums.Total()},
		Frames:  frames,
		Source:  source{log: d.log, file: f},
		End:     d.tracker.Position(),
	})
	// The pages that lie in the file stay as they are only as long as d.mu is held.
	d.save()
}

// endSurvey goes on from the past that the database was compared with: in the
// same generation if nothing differs but what was committed meanwhile. The
// caller holds d.mu and has just looked.
func (d *database) endSurvey(im *imaging, f *os.File, size wal.Pgno, sums *wal.PageSums) {
	from := im.past.States[len(im.past.States)-1]
	base, err := im.past.Sums(from.ID)
	switch {
	case err != nil:
		d.logger().Warn("the generation before cannot be forked", "error", err)
	case im.past.Ended || from.ID != im.past.Mark.Txn.ID || !im.dirty.explains(sums.Differ(base)):
		forked, err := d.fork(from, base, sums, im.dirty, source{log: d.log, file: f})
		if err != nil {
			d.fail(err)
		}
		if forked || err != nil {
			return
		}
	default:
		d.follow(sums, from)
		if len(im.dirty.frames) > 0 || sums.Size() != from.Size {
			d.appendRead(im.dirty.sorted(), sums, f)
		}
		return
	}
	if err := d.startImage(f, size); err != nil {
		d.fail(err)
	}
}

// explains reports whether all pages are in the overlay.
func (o *overlay) explains(pages iter.Seq[wal.Pgno]) bool {
	for p := range pages {
		if _, ok := o.frames[p]; !ok {
			return false
		}
	}
	return true
}

// dropImage gives up the image that is being read, if any, and waits until the
// sink is through with it. The caller holds d.mu.
func (d *database) dropImage() {
	if d.image == nil {
		return
	}
	d.image.cancel()
	<-d.image.done
	d.image = nil
}
