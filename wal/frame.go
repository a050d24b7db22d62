package wal

// Sizes in bytes (SQLite file format §4.1).
const (
	HeaderSize      = 32
	FrameHeaderSize = 24
)
