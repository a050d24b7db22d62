package wal

import "encoding/binary"

// IndexHeader is what the wal-index (the -shm file) says of the log, as far as
// a reader of the log needs it. Every connection but those in EXCLUSIVE mode
// goes by it: what is behind Frames in the log is not committed, whatever it
// looks like. (SQLite's wal.c, struct WalIndexHdr; https://sqlite.org/walformat.html §2.)
type IndexHeader struct {
	// Change is another one after each transaction.
	Change       uint32
	Frames       uint32    // mxFrame: frames of the log that are committed
	Salt1, Salt2 uint32    // of the log
	Sum          [2]uint32 // running checksum behind the last of those frames
}

// IndexHeaderSize is how many bytes at the beginning of the wal-index
// ParseIndexHeader needs.
const IndexHeaderSize = 2 * indexCopy

const (
	indexCopy    = 48      // bytes of each of the two copies of the header
	indexVersion = 3007000 // the only one there is
)

// ParseIndexHeader reads the header of a wal-index. It returns false when there
// is none, or when it is being written at this moment: read it again then.
//
// The wal-index is in the byte order of the machine.
func ParseIndexHeader(b []byte) (IndexHeader, bool) {
	if len(b) < IndexHeaderSize || [indexCopy]byte(b) != [indexCopy]byte(b[indexCopy:]) {
		return IndexHeader{}, false
	}
	native := binary.NativeEndian
	const initialized = 12
	if native.Uint32(b) != indexVersion || b[initialized] == 0 {
		return IndexHeader{}, false
	}
	// Always with the words of this machine (walChecksumBytes with nativeCksum).
	s0, s1 := uint32(0), uint32(0)
	for i := 0; i < 40; i += 8 {
		s0 += native.Uint32(b[i:]) + s1
		s1 += native.Uint32(b[i+4:]) + s0
	}
	if s0 != native.Uint32(b[40:]) || s1 != native.Uint32(b[44:]) {
		return IndexHeader{}, false
	}
	return IndexHeader{
		Change: native.Uint32(b[8:]),
		Frames: native.Uint32(b[16:]),
		Sum:    [2]uint32{native.Uint32(b[24:]), native.Uint32(b[28:])},
		// The salts are as they are in the log.
		Salt1: binary.BigEndian.Uint32(b[32:]),
		Salt2: binary.BigEndian.Uint32(b[36:]),
	}, true
}
