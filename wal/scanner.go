package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

const (
	// firstRead is how much of the log is read at first, in bytes, where the
	// frames are small enough: the frame in front of the position and, with
	// pages of 4 KiB, two behind it. Most transactions are no longer, and what
	// follows them is often stale, so reading more would be a waste.
	firstRead = 16 << 10
	// maxRead is how much of the log is in memory at most, in bytes.
	maxRead = 1 << 20
)

// scanner goes through a log frame by frame from a position on, and verifies
// each. It holds a window of the file, in which the frame in front of the
// position stays.
type scanner struct {
	log io.ReaderAt
	pos Position // behind the last frame that next returned

	buf  []byte
	off  int64 // of buf in the file
	fill int   // bytes of buf that were read
	end  bool  // the file ended at off+fill when it was read
}

// frame is one frame as next found it.
type frame struct {
	FrameHeader
	page []byte // valid until next is called again
	off  int64  // of the page in the log
}

// stride is the length of a frame, in bytes.
func (p Position) stride() int { return FrameHeaderSize + p.PageSize }

// lead is how many bytes in front of the position are needed to judge it: the
// frame there, or the checksum of the header.
func (p Position) lead() int {
	if p.Frames == 0 {
		return 8
	}
	return p.stride()
}

// newScanner returns a scanner from pos on, which is not zero. It takes over
// buf if that is large enough.
func newScanner(log io.ReaderAt, pos Position, buf []byte) scanner {
	// Room for two frames, so that a transaction of one, and what follows it,
	// come with the first read whatever the page size.
	if want := max(firstRead, 2*pos.stride()+FrameHeaderSize); len(buf) < want {
		buf = make([]byte, want)
	}
	return scanner{log: log, pos: pos, buf: buf, off: pos.Offset() - int64(pos.lead())}
}

// linked reports whether the log still has the checksum of the position in
// front of it. It is called before next.
func (s *scanner) linked() (bool, error) {
	if ok, err := s.need(0); !ok {
		return false, err
	}
	if s.pos.Frames == 0 {
		sum := [2]uint32{binary.BigEndian.Uint32(s.buf), binary.BigEndian.Uint32(s.buf[4:])}
		return sum == s.pos.Sum, nil
	}
	h := DecodeFrameHeader(s.buf)
	return h.Sum == s.pos.Sum && h.Salt1 == s.pos.Salt1 && h.Salt2 == s.pos.Salt2, nil
}

// next returns the frame behind the position and moves the position behind it.
// It returns false where the log ends: at a frame that is not there, is there in
// part, belongs to an earlier epoch, or does not continue the running checksum.
// These are not told apart, as SQLite does not tell them apart either.
func (s *scanner) next() (frame, bool, error) {
	if ok, err := s.need(FrameHeaderSize); !ok {
		return frame{}, false, err
	}
	h := DecodeFrameHeader(s.behind())
	if h.Salt1 != s.pos.Salt1 || h.Salt2 != s.pos.Salt2 || h.Pgno == 0 {
		return frame{}, false, nil
	}
	if ok, err := s.need(s.pos.stride()); !ok {
		return frame{}, false, err
	}
	b := s.behind()[:s.pos.stride()]
	page := b[FrameHeaderSize:]
	sum := chain(s.pos.BigEndian, s.pos.Sum, b[:8])
	if chain(s.pos.BigEndian, sum, page) != h.Sum {
		return frame{}, false, nil
	}
	f := frame{FrameHeader: h, page: page, off: s.pos.Offset() + FrameHeaderSize}
	s.pos.Sum = h.Sum
	s.pos.Frames++
	return f, true, nil
}

// repeats reports whether f, which next has just returned, is the frame in
// front of it once more.
func (s *scanner) repeats(f frame) bool {
	if s.pos.Frames < 2 {
		return false
	}
	before := s.buf[int(f.off-s.off)-FrameHeaderSize-s.pos.stride():]
	h := DecodeFrameHeader(before)
	return h.Pgno == f.Pgno && h.Size == f.Size &&
		bytes.Equal(before[FrameHeaderSize:s.pos.stride()], f.page)
}

// behind returns what the window has of the log behind the position.
func (s *scanner) behind() []byte { return s.buf[s.pos.Offset()-s.off : s.fill] }

// need makes sure that the window holds n bytes behind the position, and what
// lies in front of it. It returns false if the file ends before that.
func (s *scanner) need(n int) (bool, error) {
	at := s.pos.Offset()
	for s.off+int64(s.fill) < at+int64(n) {
		if s.end {
			return false, nil
		}
		s.slide(int(at - int64(s.pos.lead()) - s.off))
		got, err := s.log.ReadAt(s.buf[s.fill:], s.off+int64(s.fill))
		s.fill += got
		switch {
		case err == io.EOF:
			s.end = true
		case err != nil:
			return false, fmt.Errorf("read log at %d: %w", s.off+int64(s.fill), err)
		case s.fill < len(s.buf):
			return false, fmt.Errorf("read log at %d: %w", s.off+int64(s.fill), io.ErrNoProgress)
		}
	}
	return true, nil
}

// slide drops the first n bytes of the window and makes room behind it: the
// longer the log turns out to be, the more is read at once. Nothing is in the
// window before the first read.
func (s *scanner) slide(n int) {
	if s.fill == 0 {
		return
	}
	buf := s.buf
	if len(buf) < maxRead {
		buf = make([]byte, min(4*len(buf), maxRead))
	}
	s.fill = copy(buf, s.buf[n:s.fill])
	s.off += int64(n)
	s.buf = buf
}
