package wal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

const (
	// firstRead is how much of the log is read at first, in bytes, where the
	// frames are small enough and nobody has told how many are committed: the
	// frame in front of the position and, with pages of 4 KiB, two behind it. Most
	// transactions are no longer, and what follows them is often stale, so reading
	// more would be a waste.
	firstRead = 16 << 10
	// maxRead is how much of the log is in memory at most, in bytes: three frames
	// at least, whatever the page size.
	maxRead = 256 << 10
)

// windows are what scanners read into, for the time of a look.
var windows = sync.Pool{New: func() any { return new([maxRead]byte) }}

// scanner goes through a log frame by frame from a position on, and verifies
// each. It holds a window of the file, in which the frame in front of the
// position stays.
type scanner struct {
	log io.ReaderAt
	pos Position // behind the last frame that next returned

	window *[maxRead]byte
	off    int64 // of window in the file
	fill   int   // bytes of window that were read
	ahead  int   // how many to read next
	end    bool  // the file ended at off+fill when it was read
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

// newScanner returns a scanner from pos on, which is not zero, for so many
// frames; if that is zero, nobody knows how many. It has to be released.
func newScanner(log io.ReaderAt, pos Position, frames uint32) scanner {
	// Two frames and a header, so that a transaction of one, and what follows it,
	// come with the first read whatever the page size.
	ahead := max(firstRead, 2*pos.stride()+FrameHeaderSize)
	if frames > 0 {
		ahead = int(min(int64(pos.lead())+int64(frames)*int64(pos.stride()), maxRead))
	}
	return scanner{log: log, pos: pos, window: windows.Get().(*[maxRead]byte), ahead: ahead, off: pos.Offset() - int64(pos.lead())}
}

// release gives the window back. Frames that next has returned are not valid
// any more.
func (s *scanner) release() { windows.Put(s.window) }

// linked reports whether the log still has the checksum of the position in
// front of it. It is called before next.
func (s *scanner) linked() (bool, error) {
	if ok, err := s.need(0); !ok {
		return false, err
	}
	if s.pos.Frames == 0 {
		sum := [2]uint32{binary.BigEndian.Uint32(s.window[:]), binary.BigEndian.Uint32(s.window[4:])}
		return sum == s.pos.Sum, nil
	}
	h := DecodeFrameHeader(s.window[:])
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
	before := s.window[int(f.off-s.off)-FrameHeaderSize-s.pos.stride():]
	h := DecodeFrameHeader(before)
	return h.Pgno == f.Pgno && h.Size == f.Size &&
		bytes.Equal(before[FrameHeaderSize:s.pos.stride()], f.page)
}

// behind returns what the window has of the log behind the position.
func (s *scanner) behind() []byte { return s.window[s.pos.Offset()-s.off : s.fill] }

// need makes sure that the window holds n bytes behind the position, and what
// lies in front of it. It returns false if the file ends before that.
func (s *scanner) need(n int) (bool, error) {
	at := s.pos.Offset()
	for s.off+int64(s.fill) < at+int64(n) {
		if s.end {
			return false, nil
		}
		s.slide(int(at - int64(s.pos.lead()) - s.off))
		to := s.window[s.fill:min(s.fill+s.ahead, maxRead)]
		s.ahead = min(4*s.ahead, maxRead) // the longer it turns out to be, the more at once
		got, err := s.log.ReadAt(to, s.off+int64(s.fill))
		s.fill += got
		switch {
		case err == io.EOF:
			s.end = true
		case err != nil:
			return false, fmt.Errorf("read log at %d: %w", s.off+int64(s.fill), err)
		case got < len(to):
			return false, fmt.Errorf("read log at %d: %w", s.off+int64(s.fill), io.ErrNoProgress)
		}
	}
	return true, nil
}

// slide drops the first n bytes of the window. Nothing is in it before the
// first read.
func (s *scanner) slide(n int) {
	if s.fill == 0 {
		return
	}
	s.fill = copy(s.window[:], s.window[n:s.fill])
	s.off += int64(n)
}
