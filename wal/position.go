package wal

// Position is a place in a log right behind a commit frame (or behind the
// header, when Frames is zero), with all that is needed to go on from there and
// to prove that the log in front of it is still the same. The zero Position is
// before any log.
type Position struct {
	Salt1, Salt2 uint32
	Frames       uint32    // frames in front of the position
	Sum          [2]uint32 // running checksum behind them
	PageSize     int       // bytes
	BigEndian    bool      // byte order of the checksum (magic 0x377f0683)
}

// IsZero reports whether p is before any log.
func (p Position) IsZero() bool { return p == Position{} }

// Offset returns the file offset of the next frame, in bytes.
func (p Position) Offset() int64 {
	return HeaderSize + int64(p.Frames)*int64(FrameHeaderSize+p.PageSize)
}

// Mark is where capture of a database stands: the last transaction and the
// position in the log behind it. It is stored at the end of every segment, so
// that a restart can go on from the last one.
type Mark struct {
	Txn      TxnInfo
	PageSize int
	// Log is zero when the log was known to be empty or gone.
	Log Position
}
