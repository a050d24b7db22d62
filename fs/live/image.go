package live

import (
	"context"
	"os"

	"github.com/walback/walback/wal"
)

// imaging is a base image that is being read in the background, without any
// lock in the application's database. What is committed meanwhile (and what
// lay in the log when it began) is dirty: the file may have been read before
// or after a checkpoint put it there.
type imaging struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the sink is through with it
	ended  chan struct{} // closed when it is exact, or given up
	dirty  *overlay
	// settled is sent to when a transaction without a log has ended: the image
	// cannot end in the middle of one.
	settled chan struct{}
}

func (im *imaging) commit(c wal.Commit) { im.dirty.commit(c) }

// beginFuzzy starts reading the image. The caller holds d.mu; size is that of
// the file, over what the log lays over it.
func (d *database) beginFuzzy(size wal.Pgno, over *overlay) {
	f, err := os.Open(d.file())
	if err != nil {
		d.fail(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	im := &imaging{cancel: cancel, done: make(chan struct{}), ended: make(chan struct{}), dirty: over, settled: make(chan struct{}, 1)}
	d.image, d.phase = im, reading
	mark := wal.Mark{
		Txn:      wal.TxnInfo{ID: 1, Time: d.now(), Size: size, Pages: size},
		PageSize: d.pageSize,
		Log:      d.tracker.Position(),
	}
	go d.readImage(ctx, im, f, mark)
}

// readImage reads the image and ends it with a transaction that holds
// everything dirty: from there on the generation is exact.
func (d *database) readImage(ctx context.Context, im *imaging, f *os.File, mark wal.Mark) {
	defer close(im.ended)
	defer im.cancel()
	defer f.Close()
	sums := wal.NewPageSums(mark.PageSize)
	err := d.sink.Begin(wal.Base{
		Mark:  mark,
		Fuzzy: true,
		Pages: func(yield func(wal.Page, error) bool) {
			for p, err := range filePageSeq(ctx, f, mark.PageSize, mark.Txn.Size) {
				if err == nil {
					sums.Set(p.Pgno, wal.PageSum(p.Pgno, p.Data))
				}
				if !yield(p, err) {
					return
				}
			}
		},
	})
	close(im.done)
	for !d.tryEndImage(im, f, mark, sums, err) {
		select {
		case <-im.settled:
		case <-ctx.Done():
			return
		}
	}
}

// tryEndImage ends the image, unless a transaction without a log is under way:
// then it returns false. err is what the reading came to.
func (d *database) tryEndImage(im *imaging, f *os.File, mark wal.Mark, sums *wal.PageSums, err error) bool {
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
	d.endImage(im, f, mark, sums)
	return true
}

// endImage appends the transaction that makes the image exact. The caller
// holds d.mu and has just looked.
func (d *database) endImage(im *imaging, f *os.File, mark wal.Mark, sums *wal.PageSums) {
	frames := im.dirty.sorted()
	sums.Resize(im.dirty.size, d.pageSize)
	for _, frame := range frames {
		sums.Set(frame.Pgno, frame.Sum)
	}
	d.sums, d.last = sums, mark.Txn
	d.phase, d.err, d.backoff = following, nil, 0
	d.append(&wal.Txn{
		TxnInfo: wal.TxnInfo{Size: im.dirty.size, Pages: wal.Pgno(len(frames)), Checksum: sums.Total()},
		Frames:  frames,
		Source:  source{log: d.log, file: f},
		End:     d.tracker.Position(),
	})
	// The pages that lie in the file stay as they are only as long as d.mu is held.
	d.save()
	d.logger().Info("a new generation begins", "pages", d.last.Size, "checksum", d.last.Checksum, "committed while reading", len(frames))
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
