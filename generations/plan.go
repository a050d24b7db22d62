package generations

import (
	"fmt"
	"strings"

	"github.com/walback/walback/wal"
)

// Plan says which objects make up a database as of one transaction. It is a
// plain value: everything that reads the past (the history mount, restore,
// verify, the next snapshot) executes one.
type Plan struct {
	Client     string
	File       string // the database's own file name, e.g. "db.sqlite"
	Generation ID     // the one Txn belongs to
	Txn        wal.TxnInfo
	PageSize   int // bytes
	// Objects to lay over each other, newest first; the last is a snapshot.
	Objects []PlanObject
}

// PlanObject is one object of a Plan.
type PlanObject struct {
	Object
	Size int64 // bytes
	// Put is when the store got it, as far as that is known: see Entry.
	Put wal.Time
	// Local objects are not in the store yet; they are read from the spool.
	Local bool
	// From is the first transaction for which the object is asked; zero: all.
	From wal.TXID
}

// View identifies what p shows: two plans of one View show the same bytes even
// when they read them from different objects.
func (p Plan) View() string {
	return fmt.Sprintf("%s/%s@%d", p.Client, p.Generation, p.Txn.ID)
}

// String prints the plan as a person reads it, an object a line.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s generation %s transaction %d of %s: %d pages of %d bytes, checksum %s\n",
		p.Client, p.Generation, p.Txn.ID, p.Txn.Time, p.Txn.Size, p.PageSize, p.Txn.Checksum)
	for _, o := range p.Objects {
		fmt.Fprintf(&b, "  %s %d bytes\n", o.Key(), o.Size)
	}
	return b.String()
}
