package snapshot

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// ErrChecksum is what the error matches when the pages of a view are intact one
// by one, and are not the database that was recorded. It matches
// pack.ErrCorrupt too.
var ErrChecksum = fmt.Errorf("checksum of the database does not match: %w", pack.ErrCorrupt)

// CopyOptions says how CopyTo works; the zero value is fine.
type CopyOptions struct {
	// Concurrency is how many windows are decoded at a time: by default one for
	// each processor.
	Concurrency int
	// Progress, when not nil, is told how many bytes have been written since
	// the last call, by the goroutine that called CopyTo.
	Progress func(bytes int64)
}

// CopyTo writes the whole database to w from its beginning to its end, and
// verifies its checksum. After an error, what was written is not the database.
// It takes at most 144 MiB for buffers, whatever the size: windowsMemory,
// supplyMost, and the groups kept.
func (v *View) CopyTo(ctx context.Context, w io.Writer, o CopyOptions) error {
	copiers := func(now *View) *copier { return newCopier(now, o.Concurrency) }
	return v.each(ctx, copiers, func(_ wal.Pgno, pages []byte) error {
		if _, err := w.Write(pages); err != nil {
			return fmt.Errorf("writing the database: %w", err)
		}
		if o.Progress != nil {
			o.Progress(int64(len(pages)))
		}
		return nil
	})
}

// WriteTo is CopyTo for whoever wants an io.WriterTo.
func (v *View) WriteTo(w io.Writer) (int64, error) {
	written := int64(0)
	err := v.CopyTo(context.Background(), w, CopyOptions{Progress: func(n int64) { written += n }})
	return written, err
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

// errClosed is for whole copies of a closed view.
var errClosed = fmt.Errorf("snapshot: the view is closed: %w", fs.ErrClosed)
