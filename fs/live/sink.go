package live

import "github.com/walback/walback/wal"

// Sink takes what is captured of one database and keeps it until it is stored.
// Its methods are called one at a time. Nothing in it waits for the network,
// and an error never reaches the application: it ends the capture of the
// generation, and a new one is begun.
type Sink interface {
	// Resume returns what is kept of the newest transactions, and false when
	// there is nothing at all.
	Resume() (wal.Past, bool)

	// Ready returns nil while a generation can begin. It is cheap: nothing need be
	// read for a Begin or Fork that would fail.
	Ready() error

	// Begin starts a new generation from an image of the database and returns
	// when it is kept on local disk. It may take as long as reading the
	// database does.
	Begin(base wal.Base) error

	// Fork starts a new generation that goes on behind a transaction of the
	// last one, one of those that Resume has told, and returns when the first
	// transaction, whose ID follows, is kept on local disk.
	Fork(from wal.TXID, first *wal.Txn) error

	// Append adds committed transactions; their IDs follow the last one's. It
	// returns at once. The pages stay where they are until Save or until the
	// sink has read them. When an earlier process had appended the same one
	// without saving it, its Time becomes what it was then.
	Append(txns ...*wal.Txn)

	// TakeBack takes back the last transaction that was appended, and returns
	// false if it is saved already.
	TakeBack(id wal.TXID) bool

	// Save copies every appended transaction that still lies in the log to
	// local disk; afterwards the log may be overwritten. It is called at gates,
	// while the application waits.
	Save() error

	// Settled reports whether everything that was appended is in the store, and
	// Resume would tell the state behind it, also after a Close. It may be false for
	// no reason.
	Settled() bool

	// Err returns nil while transactions can be appended, and otherwise why a new
	// generation has to begin. It is cheap, and may be called at any time.
	Err() error

	// Close saves, and lets go of the database; shipping goes on.
	Close() error
}
