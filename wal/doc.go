// Package wal turns the bytes SQLite writes to its write-ahead log into
// transactions.
//
// The log of a database is a 32-byte header followed by frames, each a 24-byte
// header and one page (SQLite file format §4.1, "WAL File Format"):
//
//	+--------+---------+---------+-----+---------+
//	| header | frame 1 | frame 2 | ... | frame n |
//	+--------+---------+---------+-----+---------+
//	   32 B   24 B+page
//
// A frame whose header carries a database size other than zero is a commit
// frame: it ends a transaction. Header and frames are chained by a running
// checksum, and every frame repeats the two salts of the header; a frame is
// part of the log exactly when its salts and the running checksum match.
// When a checkpoint has copied the whole log into the database, the next
// writer starts the log again from the beginning with new salts: one such run
// from a header on is called an epoch here.
//
// A [Tracker] re-reads the log from the last transaction it has seen and
// returns what was committed since. The log is the only truth: whoever calls
// the Tracker (an intercepted write, a gate, a restart after a crash) only
// says that it might be worth looking.
//
// The sub-package pack stores page versions of many transactions in one
// object. Package wal itself knows no network and no paths: it is handed
// io.ReaderAt values.
package wal
