package pack

import (
	"errors"
	"fmt"

	"github.com/walback/walback/wal"
)

// Kind says what a pack is of.
type Kind byte

const (
	// Segment holds all versions of a run of transactions.
	Segment Kind = 1
	// Snapshot holds every page of a database as of one transaction.
	Snapshot Kind = 2
	// Map tells where every page of a database lies as of one transaction, in
	// the map itself or in other objects.
	Map Kind = 3
)

// Place names an object within its store. It enters every block's checksum, so
// that bytes which moved to another object or offset do not pass for intact.
type Place struct {
	Generation string // sixteen hex digits
	Name       string // below the generation, e.g. "wal/0000000001.wal"
}

// Info is what the root of a pack tells about it.
type Info struct {
	Kind     Kind
	PageSize int // bytes
	First    wal.TxnInfo
	Last     wal.TxnInfo
	Txns     int   // transactions, gapless from First to Last
	Versions int64 // page versions stored
	MinPgno  wal.Pgno
	MaxPgno  wal.Pgno
	// Fuzzy marks a snapshot read while the database was being written: it is
	// of no instant by itself and must be overlaid with the transaction that
	// follows it. First.Checksum is zero then.
	Fuzzy bool
	// Shrinks tells that some transaction of the pack left the database smaller
	// than the transaction in front of it in the pack did.
	Shrinks bool
	// Thinned marks a segment that is whole for some of its transactions only, see
	// Thin; the last is one of them.
	Thinned bool
	// Mark is where capture stood behind the last transaction; its Txn equals Last.
	Mark wal.Mark
}

// Ref is where a version lies in a pack.
type Ref struct {
	Pgno wal.Pgno
	TXID wal.TXID
	// Group and Slot are the group's number and the version's place in it.
	Group, Slot int
	Sum         uint32 // the lower half of the page's checksum
}

// Version is one stored version of a page.
type Version struct {
	Pgno wal.Pgno
	TXID wal.TXID
	Data []byte
	Sum  uint32 // the lower half of its checksum, which was verified
}

// ErrVersion is what the error about an intact pack of a later format version
// matches.
var ErrVersion = errors.New("unknown format version")

// ErrCorrupt is what every error about damaged or foreign bytes matches. An
// error reading the object is passed on as it is, wrapped.
var ErrCorrupt = errors.New("corrupt")

// CorruptError says which bytes of which object are damaged.
type CorruptError struct {
	Place Place
	Off   int64 // bytes from the beginning of the object
	What  string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("generation %s: %s: corrupt at byte %d: %s", e.Place.Generation, e.Place.Name, e.Off, e.What)
}

// Is makes every CorruptError match ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
