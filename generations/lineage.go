package generations

import (
	"errors"
	"fmt"
	"time"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// lineage is a generation that is written by this process or waits to be
// shipped. The mutex of its Writer guards it.
type lineage struct {
	progress
	manifest []byte  // generation.json, until it is in the store
	pieces   []piece // saved and not shipped, ascending and adjoining
	last     wal.TxnInfo
	mark     wal.Mark // behind the last piece

	// baseSize is that of the image in the spool that g begins with, in bytes.
	baseSize int64

	// ended tells why no more transactions may be added (another generation
	// followed, or one could not be saved), stuck why no more can be shipped.
	ended, stuck error

	// proved: the store has been seen to hold what progress says.
	// earlier: it was begun by an earlier process.
	// resumed: the same, and nothing has been put since; a conflict then means
	// that our memory is behind, not that another writer is at work.
	proved, earlier, resumed bool

	// tail is what the store has of g that is not final, from when g is proved on;
	// leftovers has been merged into others. merging: a merge is under way; not
	// another one before mergeAt.
	tail      []member
	leftovers []leftover
	merging   bool
	mergeAt   time.Time

	// alone is when the store was last known to have nothing behind Mark.
	alone time.Time

	maps mapState
}

// piece is a saved run of transactions.
type piece struct {
	Object
	size int64 // bytes
	raw  int64 // bytes of pages
	head wal.TxnInfo
}

// segmentKey returns the object that transactions from first on are shipped as.
func (g *lineage) segment(client string, first wal.TXID) Object {
	return Object{Client: client, Generation: g.ID, Kind: SegmentObject, First: first}
}

func (g *lineage) object(client string, kind ObjectKind) Object {
	o := Object{Client: client, Generation: g.ID, Kind: kind}
	if kind == SnapshotObject {
		o.First = g.Base
	}
	return o
}

// stands reports whether transactions of g can be read from the store.
func (g *lineage) stands() bool { return g.Snapshot != 0 || g.Parent != nil && g.Segment != "" }

// keys returns those of all objects of g that are in the spool, or were.
func (g *lineage) keys(client string) []string {
	keys := []string{g.object(client, ManifestObject).Key()}
	if g.Parent == nil {
		keys = append(keys, g.object(client, SnapshotObject).Key())
	}
	for _, p := range g.pieces {
		keys = append(keys, p.Key())
	}
	return keys
}

// usable reports whether transactions may be added.
func (g *lineage) usable() bool { return g.ended == nil && g.stuck == nil }

// waiting reports whether something saved can be shipped.
func (g *lineage) waiting() bool {
	return g.stuck == nil && (!g.Manifest || g.needsBase() || len(g.pieces) > 0)
}

// needsBase reports whether the image that g begins with is not in the store.
// A fork has none.
func (g *lineage) needsBase() bool { return g.Parent == nil && g.Snapshot == 0 }

// holds returns how many bytes wait in the spool to be shipped, but for the image
// that g begins with if g is current.
func (g *lineage) holds(current bool) int64 {
	if g.stuck != nil {
		return 0 // it will not get less by shipping
	}
	n := g.waitingBytes()
	if g.needsBase() && !current {
		n += g.baseSize
	}
	return n
}

// waitingBytes returns the size of the pieces.
func (g *lineage) waitingBytes() (n int64) {
	for _, p := range g.pieces {
		n += p.size
	}
	return n
}

// openPiece opens a local pack. Closing the file ends its use.
func (s *Spool) openPack(o Object) (*pack.Reader, func() error, error) {
	f, size, err := s.Open(o.Key())
	if err != nil {
		return nil, nil, err
	}
	r, err := pack.Open(f, size, o.Place(), pack.ReaderOptions{})
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return r, f.Close, nil
}

// loadPiece reads what must be known of a piece.
func (s *Spool) loadPiece(o PlanObject) (p piece, mark wal.Mark, err error) {
	r, done, err := s.openPack(o.Object)
	if err != nil {
		return piece{}, wal.Mark{}, err
	}
	info := r.Info()
	if info.Kind != pack.Segment || info.First.ID != o.First || info.Last.ID != o.Last {
		err = &pack.CorruptError{Place: o.Place(), What: fmt.Sprintf("holds transactions %d to %d", info.First.ID, info.Last.ID)}
	}
	p = piece{Object: o.Object, size: o.Size, raw: info.Versions * int64(info.PageSize), head: info.First}
	return p, info.Mark, errors.Join(err, done())
}
