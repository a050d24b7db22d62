package snapshot

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// ErrChecksum is what the error matches when the pages of a view are intact one
// by one, and are not the database that was recorded. It matches
// pack.ErrCorrupt too.
var ErrChecksum = fmt.Errorf("checksum of the database does not match: %w", pack.ErrCorrupt)

// CopyOptions says how CopyTo works; the zero value is fine.
type CopyOptions struct {
	// Concurrency is how many windows of 4 MiB are read at a time: by default
	// one for each processor, at least 4.
	Concurrency int
	// Progress, when not nil, is told how many bytes have been written since
	// the last call. It is called by one goroutine at a time.
	Progress func(bytes int64)
}

// CopyTo writes the whole database to w, a window at a time, in no order, and
// verifies its checksum. After an error, what w holds is not the database.
// Memory is bounded by Concurrency and does not depend on the size.
func (v *View) CopyTo(ctx context.Context, w io.WriterAt, o CopyOptions) error {
	if o.Concurrency == 0 {
		o.Concurrency = max(runtime.GOMAXPROCS(0), 4)
	}
	c := newCopier(v)
	// A file lets one writer in at a time. Those who wait for it in the kernel spin
	// there, which takes longer than all the rest; here they do not.
	var writing sync.Mutex
	var mu sync.Mutex // guards todo, sum, and calls of Progress
	todo := wal.Pgno(1)
	var sum wal.Checksum
	take := func() (window, bool, error) {
		mu.Lock()
		defer mu.Unlock()
		win, ok, err := c.window(todo)
		todo = win.next
		return win, ok, err
	}
	g, ctx := errgroup.WithContext(ctx)
	for range o.Concurrency {
		g.Go(func() error {
			f := c.filler()
			for {
				if err := ctx.Err(); err != nil {
					return err
				}
				win, ok, err := take()
				if err != nil || !ok {
					return err
				}
				pages, s, err := f.fill(win)
				if err != nil {
					return err
				}
				writing.Lock()
				_, err = w.WriteAt(pages, int64(win.first-1)*int64(v.pageSize))
				writing.Unlock()
				if err != nil {
					return fmt.Errorf("writing the database: %w", err)
				}
				mu.Lock()
				sum ^= s
				if o.Progress != nil {
					o.Progress(int64(len(pages)))
				}
				mu.Unlock()
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return v.verify(sum)
}

// WriteTo writes the whole database to w from its beginning to its end, reading
// ahead, and verifies its checksum. After an error, what was written is not the
// database.
func (v *View) WriteTo(w io.Writer) (int64, error) {
	written := int64(0)
	err := v.each(func(_ wal.Pgno, pages []byte) error {
		n, err := w.Write(pages)
		written += int64(n)
		if err != nil {
			return fmt.Errorf("writing the database: %w", err)
		}
		return nil
	})
	return written, err
}

// each calls do with all pages in order, many at a time, first being the number
// of the first. While do works, the next windows are read. At the end it verifies
// the checksum.
func (v *View) each(do func(first wal.Pgno, pages []byte) error) error {
	const ahead = 4
	type running struct {
		*filler
		window
		pages []byte
		sum   wal.Checksum
		err   error
		done  chan struct{} // closed when the fields above are set
	}
	c := newCopier(v)
	var free []*filler
	for range ahead {
		free = append(free, c.filler())
	}
	var queue []*running // in page order
	defer func() {
		for _, r := range queue {
			<-r.done
		}
	}()
	var sum wal.Checksum
	for todo, more := wal.Pgno(1), true; ; {
		for more && len(free) > 0 {
			win, ok, err := c.window(todo)
			if err != nil {
				return err
			}
			if todo, more = win.next, ok; !ok {
				break
			}
			r := &running{filler: free[0], window: win, done: make(chan struct{})}
			queue, free = append(queue, r), free[1:]
			go func() {
				defer close(r.done)
				r.pages, r.sum, r.err = r.fill(win)
			}()
		}
		if len(queue) == 0 {
			return v.verify(sum)
		}
		r := queue[0]
		<-r.done
		queue = queue[1:]
		if r.err != nil {
			return r.err
		}
		if err := do(r.first, r.pages); err != nil {
			return err
		}
		sum ^= r.sum
		free = append(free, r.filler)
	}
}

// verify compares the checksum of all pages with the recorded one.
func (v *View) verify(sum wal.Checksum) error {
	if sum != v.at.Checksum {
		base := v.sources[len(v.sources)-1].Place()
		return fmt.Errorf("generation %s transaction %d, over %s: the pages have checksum %s, recorded is %s: %w",
			base.Generation, v.at.ID, base.Name, sum, v.at.Checksum, ErrChecksum)
	}
	return nil
}

// Write writes the view to w as a snapshot for place, after verifying its
// checksum; mark is where capture stood behind its transaction. After an error,
// what was written is no pack.
func Write(w io.Writer, place pack.Place, v *View, mark wal.Mark) (pack.Info, error) {
	pw := pack.NewWriter(w, pack.Snapshot, v.pageSize, place, pack.WriterOptions{})
	err := v.each(func(first wal.Pgno, pages []byte) error {
		for i := 0; i < len(pages); i += v.pageSize {
			if err := pw.Add(first+wal.Pgno(i/v.pageSize), v.at.ID, pages[i:i+v.pageSize]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return pack.Info{}, err
	}
	if _, err := pw.Finish([]wal.TxnInfo{v.at}, mark); err != nil {
		return pack.Info{}, err
	}
	return pw.Info(), nil
}

// errClosed is for whole copies of a closed view.
var errClosed = fmt.Errorf("snapshot: the view is closed: %w", fs.ErrClosed)
