package wal

// Past is what is kept on local disk of the newest transactions of a database.
// It tells a capture that begins again where it can go on.
type Past struct {
	// Mark is behind the last transaction that is kept.
	Mark Mark
	// Ended: no transaction can be appended behind Mark any more. The generation
	// can still be forked.
	Ended bool
	// States are transactions, ascending, whose database can be told page by
	// page, and from which the generation can be forked. The last is Mark's,
	// unless a power failure took it. There may be none.
	States []TxnInfo
	// Sums returns the checksums of all pages as one of States left them. It
	// reads a file, and proves what it returns by the transaction's checksum.
	Sums func(TXID) (*PageSums, error)
}
