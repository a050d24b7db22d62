package wal

import "iter"

// Base is the image of a whole database that a generation begins with.
type Base struct {
	// Mark is of the transaction that the image counts as (ID 1 in a generation
	// without a parent) and the log position behind it.
	Mark Mark
	// Fuzzy images were read while the database was being written: they are of
	// no instant by themselves. The next transaction holds every page that may
	// have changed meanwhile. Mark.Txn.Checksum is zero then.
	Fuzzy bool
	// Pages yields pages 1 to Mark.Txn.Size, ascending, each once. The data is
	// valid until the next is asked for. An error ends it.
	Pages iter.Seq2[Page, error]
}

// Page is one page of a database.
type Page struct {
	Pgno Pgno
	Data []byte
}
