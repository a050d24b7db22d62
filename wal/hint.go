package wal

import "encoding/binary"

// WriteHint is told of every write to a log and says which of them may have
// completed a commit, so that a [Tracker] need not look after each. It is a hint
// and no more: when it starts in the middle of a transaction it may miss the end
// of that one, and it may be wrong in saying yes.
//
// SQLite writes a frame as its header and then its page. In a transaction that
// overwrote frames of its own (a cache spill), the headers are written without
// salts and checksums at first; when all pages are written the headers are
// written again, the commit frame's last. (walFrames and walRewriteChecksums in
// SQLite's wal.c.) Writes may arrive split or joined.
//
// The zero WriteHint is ready for use. It is not safe for concurrent use.
type WriteHint struct {
	pageSize int // zero: not known yet

	// The frame header being put together begins at frame; have bytes of it were
	// written. A frame of zero is none: that is where the log's header is.
	frame int64
	have  int
	head  [FrameHeaderSize]byte

	pending  int64 // where the page ends that will complete a commit frame, or zero
	unsealed int64 // the commit frame whose header was written without salts, or zero
}

// SetPageSize tells the page size, in bytes, of a log that is not written from
// its header on.
func (h *WriteHint) SetPageSize(n int) { *h = WriteHint{pageSize: n} }

// Wrote reports whether the write of p at offset off, in bytes, may have
// completed a commit. Before the page size is known each may.
func (h *WriteHint) Wrote(off int64, p []byte) bool {
	if off < HeaderSize {
		h.wroteLogHeader(off, p)
		n := min(HeaderSize-off, int64(len(p)))
		off, p = off+n, p[n:]
	}
	if len(p) == 0 {
		return false
	}
	if h.pageSize == 0 {
		return true
	}
	stride := int64(FrameHeaderSize + h.pageSize)
	// A page that was awaited and is not what comes next was there already.
	commit := h.pending != 0 && (off >= h.pending || off+int64(len(p)) <= h.pending-int64(h.pageSize))
	if commit {
		h.pending = 0
	}
	for len(p) > 0 {
		frame := off - (off-HeaderSize)%stride
		n := min(frame+stride-off, int64(len(p)))
		if in := off - frame; in < FrameHeaderSize {
			n = min(FrameHeaderSize-in, n)
			if h.wroteFrameHeader(frame, int(in), p[:n]) {
				commit = true
			}
		} else if off+n == h.pending {
			h.pending = 0
			commit = true
		}
		off, p = off+n, p[n:]
	}
	return commit
}

// wroteLogHeader learns the page size, and forgets what it knows of the log.
func (h *WriteHint) wroteLogHeader(off int64, p []byte) {
	pageSize := h.pageSize
	if off == 0 && len(p) >= 12 && binary.BigEndian.Uint32(p)&^1 == magic {
		if n := int(binary.BigEndian.Uint32(p[8:])); ValidPageSize(n) {
			pageSize = n
		}
	}
	*h = WriteHint{pageSize: pageSize}
}

// wroteFrameHeader takes in bytes of the header of a frame, and reports whether
// they complete a commit whose page is there already.
func (h *WriteHint) wroteFrameHeader(frame int64, in int, p []byte) bool {
	end := frame + int64(FrameHeaderSize+h.pageSize)
	if in == 0 {
		h.frame, h.have = frame, 0
	} else if h.frame != frame || h.have != in {
		h.pending = end // its beginning was not seen: it may be a commit
		return false
	}
	h.have += copy(h.head[in:], p)
	if h.have < FrameHeaderSize {
		return false
	}
	sealed := [FrameHeaderSize - 8]byte(h.head[8:]) != [FrameHeaderSize - 8]byte{}
	rewritten := false
	switch {
	case !DecodeFrameHeader(h.head[:]).IsCommit():
		h.pending = 0
	case !sealed:
		h.pending, h.unsealed = 0, frame
	default:
		// Either way the page may still follow: the transaction that left the
		// header unsealed may have failed, and this one be another.
		h.pending, rewritten = end, h.unsealed == frame
		h.unsealed = 0
	}
	return rewritten
}
