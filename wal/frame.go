package wal

import "encoding/binary"

// FrameHeaderSize is the length of the header in front of every page in the
// log, in bytes (SQLite file format §4.1).
const FrameHeaderSize = 24

// FrameHeader is the header of one frame.
type FrameHeader struct {
	Pgno         Pgno // page the frame holds a version of; zero is never valid
	Size         Pgno // in a commit frame the pages in the database after it, otherwise zero
	Salt1, Salt2 uint32
	// Sum is the running checksum behind this frame: over the first 24 bytes of
	// the log, and the first 8 bytes of the header and the page of every frame
	// up to this one.
	Sum [2]uint32
}

// DecodeFrameHeader decodes the FrameHeaderSize bytes at the start of b. Any
// bytes are a frame header; whether they belong to a log only its salts and the
// running checksum can tell. It panics if b is shorter.
func DecodeFrameHeader(b []byte) FrameHeader {
	_ = b[FrameHeaderSize-1]
	return FrameHeader{
		Pgno:  Pgno(binary.BigEndian.Uint32(b[0:])),
		Size:  Pgno(binary.BigEndian.Uint32(b[4:])),
		Salt1: binary.BigEndian.Uint32(b[8:]),
		Salt2: binary.BigEndian.Uint32(b[12:]),
		Sum:   [2]uint32{binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])},
	}
}

// Append appends the FrameHeaderSize bytes of h to b.
func (h FrameHeader) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(h.Pgno))
	b = binary.BigEndian.AppendUint32(b, uint32(h.Size))
	b = binary.BigEndian.AppendUint32(b, h.Salt1)
	b = binary.BigEndian.AppendUint32(b, h.Salt2)
	b = binary.BigEndian.AppendUint32(b, h.Sum[0])
	return binary.BigEndian.AppendUint32(b, h.Sum[1])
}

// IsCommit reports whether the frame ends a transaction.
func (h FrameHeader) IsCommit() bool { return h.Size != 0 }
