package generations

import (
	"bytes"
	"errors"
	"io"
	"syscall"

	"github.com/walback/walback/wal/pack"
)

const (
	// inMemory is up to how many bytes of pieces a segment is made in memory and
	// not in a temporary file.
	inMemory = 1 << 20
	// cramped is the same where there is no space for a file: shipping is what makes
	// room again. One segment at a time is made so.
	cramped = 2 * maxRun
)

// segment is one that can be put.
type segment struct {
	info pack.Info
	body *io.SectionReader
	file *spoolFile   // that body lies in, nil: in memory
	done func() error // lets go of it
}

// merge makes the segment o, which has the transactions of pieces.
func (s *Spool) merge(o Object, pieces []piece) (segment, error) {
	if seg, raw, err := s.mergeRaw(o, pieces); raw || err != nil {
		return seg, err
	}
	readers := make([]*pack.Reader, len(pieces))
	var total int64
	for i, p := range pieces {
		r, closed, err := s.openPack(p.Object)
		if err != nil {
			return segment{}, err
		}
		defer closed() // only read
		readers[i] = r
		total += p.size
	}
	return s.makeSegment(total, func(w io.Writer) (pack.Info, error) {
		return pack.Merge(w, o.Place(), pack.WriterOptions{}, readers...)
	})
}

// makeSegment makes a segment, of about so many bytes of pages, of what write
// writes.
func (s *Spool) makeSegment(total int64, write func(io.Writer) (pack.Info, error)) (segment, error) {
	if total <= inMemory {
		return makeInMemory(write)
	}
	seg, err := s.makeInFile(write)
	if !noSpace(err) || total > cramped {
		return seg, err
	}
	s.cramped.Lock()
	seg, err = makeInMemory(write)
	if err != nil {
		s.cramped.Unlock()
		return seg, err
	}
	seg.done = func() error {
		s.cramped.Unlock()
		return nil
	}
	return seg, nil
}

// noSpace reports whether err is of a disk, or a quota of it, that is full.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func makeInMemory(write func(io.Writer) (pack.Info, error)) (segment, error) {
	var b bytes.Buffer
	info, err := write(&b)
	body := io.NewSectionReader(bytes.NewReader(b.Bytes()), 0, int64(b.Len()))
	return segment{info: info, body: body, done: func() error { return nil }}, err
}

func (s *Spool) makeInFile(write func(io.Writer) (pack.Info, error)) (segment, error) {
	f, err := s.create()
	if err != nil {
		return segment{}, err
	}
	info, err := write(f)
	var size int64
	if err == nil {
		size, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return segment{}, errors.Join(err, f.drop())
	}
	return segment{info, io.NewSectionReader(f, 0, size), f, f.drop}, nil
}
