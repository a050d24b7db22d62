package generations

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// merger puts one segment in place of several that the store has. It is given
// what differs between a mount, which works in the background, and a command,
// which does nothing else.
type merger struct {
	store   Store
	create  func() (*spoolFile, error)      // a file to make a segment in
	local   func(o Object) (*os.File, bool) // a local copy
	through func(f *spoolFile) io.Writer    // writes to f, as fast as it may
	cores   int                             // to compress on
	made    func(o Object, seg segment)     // told of what was made and put
}

// Memory that reading the inputs takes, for all of one merge together, in bytes:
// more of it makes fewer requests.
const (
	inputMemory = 32 << 20
	mostWindow  = 8 << 20
)

// merge puts the segment that has the transactions of run, which adjoin or
// overlap, and makes sure that the store has it. The error is that of a Store,
// ErrIncomplete when run does not fit together, or a conflictError when the store
// has another segment of that name.
func (m *merger) merge(ctx context.Context, run []member) (member, error) {
	inputs, done, err := m.gather(ctx, run)
	if err != nil {
		return member{}, err
	}
	defer done()
	last := wal.TXID(0)
	for _, r := range inputs {
		last = max(last, r.Info().Last.ID)
	}
	o := run[0].Object
	o.Last = last
	f, err := m.create()
	if err != nil {
		return member{}, err
	}
	defer f.drop() // what is kept of it has another name; a leftover is removed later
	info, err := pack.Merge(m.through(f), o.Place(), pack.WriterOptions{Concurrency: m.cores}, inputs...)
	if err != nil {
		return member{}, fmt.Errorf("%s: %w", o.Client, err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return member{}, err
	}
	seg := segment{info: info, body: io.NewSectionReader(f, 0, size), file: f}
	one := member{PlanObject: PlanObject{Object: o, Size: size}, last: last}
	err = m.store.Put(ctx, o.Key(), seg.body)
	switch {
	case errors.Is(err, ErrExists): // an earlier attempt, or somebody else's
		one.Size, err = m.same(ctx, o, inputs)
	case err == nil:
		err = m.promised(ctx, one, info)
	}
	if err == nil && one.Size == size {
		m.made(o, seg)
	}
	return one, err
}

// gather returns a run as at most mostInputs segments, for which it may have to
// make some in files. done ends their use.
func (m *merger) gather(ctx context.Context, run []member) (inputs []*pack.Reader, done func(), err error) {
	if len(run) <= mostInputs {
		return m.open(ctx, run)
	}
	var files []*spoolFile
	done = func() {
		for _, f := range files {
			f.drop() // a leftover is removed later
		}
	}
	for some := range slices.Chunk(run, (len(run)+mostInputs-1)/mostInputs) {
		f, err := m.create()
		if err != nil {
			done()
			return nil, nil, err
		}
		files = append(files, f)
		r, err := m.gatherInto(ctx, f, some)
		if err != nil {
			done()
			return nil, nil, err
		}
		inputs = append(inputs, r)
	}
	return inputs, done, nil
}

// gatherInto makes one segment of a run in f.
func (m *merger) gatherInto(ctx context.Context, f *spoolFile, run []member) (*pack.Reader, error) {
	inputs, done, err := m.gather(ctx, run)
	if err != nil {
		return nil, err
	}
	defer done()
	place := pack.Place{Generation: run[0].Generation.String(), Name: "gathered for " + run[0].name()}
	if _, err := pack.Merge(m.through(f), place, pack.WriterOptions{Concurrency: m.cores}, inputs...); err != nil {
		return nil, fmt.Errorf("%s: %w", run[0].Client, err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return pack.Open(f, size, place, pack.ReaderOptions{})
}

// open opens the parts of a run.
func (m *merger) open(ctx context.Context, run []member) (inputs []*pack.Reader, done func(), err error) {
	inputs = make([]*pack.Reader, len(run))
	files := make([]*os.File, len(run))
	done = func() {
		for _, f := range files {
			if f != nil {
				f.Close() // only read
			}
		}
	}
	window := min(max(inputMemory/int64(len(run)), 256<<10), mostWindow)
	g := new(errgroup.Group)
	g.SetLimit(openers)
	for i, p := range run {
		g.Go(func() (err error) {
			var src io.ReaderAt
			f, ok := m.local(p.Object)
			switch {
			case !ok:
				src = &windows{object: storedBytes{ctx, m.store, p.Key()}, size: p.Size, window: window}
			case p.Size > window:
				src, files[i] = f, f
			default: // costs no descriptor while it is merged
				b, err := io.ReadAll(f)
				if err = errors.Join(err, f.Close()); err != nil {
					return err
				}
				src = bytes.NewReader(b)
			}
			if inputs[i], err = pack.Open(src, p.Size, p.Place(), pack.ReaderOptions{}); err != nil {
				return err
			}
			return checkName(p.Object, inputs[i].Info())
		})
	}
	if err := g.Wait(); err != nil {
		done()
		return nil, nil, err
	}
	return inputs, done, nil
}

// promised makes sure that the store has what was put, because what it was made
// of will be deleted.
func (m *merger) promised(ctx context.Context, one member, want pack.Info) error {
	r, err := pack.Open(storedBytes{ctx, m.store, one.Key()}, one.Size, one.Place(), pack.ReaderOptions{})
	if err == nil && r.Info() != want {
		err = &pack.CorruptError{Place: one.Place(), What: "it is not what has just been put"}
	}
	return err
}

// same returns the size of what the store has as o, if that is whole and has the
// transactions of inputs.
func (m *merger) same(ctx context.Context, o Object, inputs []*pack.Reader) (int64, error) {
	size, err := sizeOf(ctx, m.store, o)
	if err != nil {
		return 0, err
	}
	theirs, err := pack.Open(&windows{object: storedBytes{ctx, m.store, o.Key()}, size: size, window: mostWindow}, size, o.Place(), pack.ReaderOptions{})
	if err != nil {
		return 0, err
	}
	// Merging compares the transactions, and would go on behind them.
	if err := theirs.Verify(); err != nil {
		return 0, err
	}
	info, err := pack.Merge(io.Discard, o.Place(), pack.WriterOptions{Raw: true}, append([]*pack.Reader{theirs}, inputs...)...)
	if err == nil && info != theirs.Info() {
		err = fmt.Errorf("%s exists and has other transactions", o.Key())
	}
	return size, err
}

// sizeOf returns the size of an object of the store.
func sizeOf(ctx context.Context, s Store, o Object) (int64, error) {
	body, err := s.Get(ctx, o.Key(), -1, -1)
	if err != nil {
		return 0, err
	}
	return body.ObjectSize, body.Close()
}
