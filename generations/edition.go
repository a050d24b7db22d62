package generations

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/walback/walback/wal"
)

// Edition is what a pruning has made of the older part of a generation: the
// objects that it consists of now, and which of its transactions are kept. It is
// put, under the next number, when all that it names is in the store, so it is
// seen as a whole or not at all, and of two prunings at once one comes too late.
// The newest edition counts. Whatever else there is up to Through is not of the
// generation any more, and will be deleted.
type Edition struct {
	Format  int       // of the generation's objects, 1
	Pruning ID        // names what was made for it; later than those before it
	Pruned  wal.Time  // when
	Policy  string    // what was to be kept
	First   FirstTxn  // that the generation had before anything was pruned
	Through wal.TXID  // the last transaction that the edition tells of
	Kept    []KeptRun // of those up to Through, ascending

	// Keys below the generation: what makes up all of its transactions that are
	// kept, and perhaps others. Both are ascending.
	Segments  []string
	Snapshots []string
}

// FirstTxn is the first transaction of a generation.
type FirstTxn struct {
	ID   wal.TXID
	Time wal.Time
}

// KeptRun is some transactions in a row, the first and the last included.
type KeptRun struct {
	First, Last wal.TXID
}

func (r KeptRun) len() int64 { return int64(r.Last-r.First) + 1 }

// editionJSON is an Edition as it is written: times as text.
type editionJSON struct {
	Format    int           `json:"format"`
	Pruning   ID            `json:"pruning"`
	Pruned    string        `json:"pruned"`
	Policy    string        `json:"policy"`
	First     wal.TXID      `json:"first"`
	FirstTime string        `json:"first_time"`
	Through   wal.TXID      `json:"through"`
	Kept      [][2]wal.TXID `json:"kept"`
	Segments  []string      `json:"segments"`
	Snapshots []string      `json:"snapshots"`
}

// Encode returns the bytes of the edition.
func (e *Edition) Encode() []byte {
	j := editionJSON{
		Format: e.Format, Pruning: e.Pruning, Pruned: e.Pruned.String(), Policy: e.Policy,
		First: e.First.ID, FirstTime: e.First.Time.String(), Through: e.Through,
		Kept: [][2]wal.TXID{}, Segments: append([]string{}, e.Segments...), Snapshots: append([]string{}, e.Snapshots...),
	}
	for _, r := range e.Kept {
		j.Kept = append(j.Kept, [2]wal.TXID{r.First, r.Last})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(j); err != nil {
		panic("generations: edition does not encode: " + err.Error())
	}
	return b.Bytes()
}

// ParseEdition reads an edition. Fields it does not know are passed over, but a
// format it does not know is an error.
func ParseEdition(b []byte) (*Edition, error) {
	var j editionJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, err
	}
	if j.Format != manifestFormat {
		return nil, fmt.Errorf("format %d is not known to this walback; a newer one may read it", j.Format)
	}
	e := &Edition{
		Format: j.Format, Pruning: j.Pruning, Policy: j.Policy,
		First: FirstTxn{ID: j.First}, Through: j.Through, Segments: j.Segments, Snapshots: j.Snapshots,
	}
	for _, t := range []struct {
		text string
		into *wal.Time
	}{{j.Pruned, &e.Pruned}, {j.FirstTime, &e.First.Time}} {
		at, err := time.Parse(time.RFC3339Nano, t.text)
		if err != nil {
			return nil, fmt.Errorf("time %q: want RFC 3339", t.text)
		}
		*t.into = wal.TimeOf(at)
	}
	if e.Pruning == 0 || e.First.ID == 0 || e.First.ID > e.Through || e.Through > wal.MaxTXID {
		return nil, fmt.Errorf("pruning %s of transactions %d to %d makes no sense", e.Pruning, e.First.ID, e.Through)
	}
	before := e.First.ID - 1
	for _, r := range j.Kept {
		if r[0] <= before || r[1] < r[0] || r[1] > e.Through {
			return nil, fmt.Errorf("transactions %d to %d kept behind %d make no sense", r[0], r[1], before)
		}
		e.Kept = append(e.Kept, KeptRun{r[0], r[1]})
		before = r[1]
	}
	if !slices.IsSorted(e.Segments) || !slices.IsSorted(e.Snapshots) {
		return nil, errors.New("its objects are not in order")
	}
	for _, name := range slices.Concat(e.Segments, e.Snapshots) {
		if o, ok := objectNamed("c", e.Pruning, name); !ok || o.Kind != SegmentObject && o.Kind != SnapshotObject {
			return nil, fmt.Errorf("%q is not the key of a segment or snapshot", name)
		}
	}
	return e, nil
}

// keeps reports whether transaction id, at most Through, is kept.
func (e *Edition) keeps(id wal.TXID) bool {
	i := e.runFrom(id)
	return i < len(e.Kept) && e.Kept[i].First <= id
}

// runFrom returns the index of the first run that ends at id or behind it.
func (e *Edition) runFrom(id wal.TXID) int {
	return sort.Search(len(e.Kept), func(i int) bool { return e.Kept[i].Last >= id })
}

// atOrBefore returns the newest transaction that is kept up to id, zero for none.
func (e *Edition) atOrBefore(id wal.TXID) wal.TXID {
	i := e.runFrom(id)
	switch {
	case i < len(e.Kept) && e.Kept[i].First <= id:
		return id
	case i > 0:
		return e.Kept[i-1].Last
	}
	return 0
}

// atOrBehind returns the oldest transaction that is kept from id on, zero for none
// up to Through.
func (e *Edition) atOrBehind(id wal.TXID) wal.TXID {
	if i := e.runFrom(id); i < len(e.Kept) {
		return max(id, e.Kept[i].First)
	}
	return 0
}

// names reports whether an object of the generation is part of e.
func (e *Edition) names(o Object) bool {
	names := e.Segments
	if o.Kind == SnapshotObject {
		names = e.Snapshots
	}
	_, ok := slices.BinarySearch(names, o.name())
	return ok
}

// supersedes reports whether an object of the generation is not of it any more
// because of e.
func (e *Edition) supersedes(o Object) bool {
	switch {
	case o.Kind != SegmentObject && o.Kind != SnapshotObject || e.names(o):
		return false
	case o.Pruning != 0: // a later one may be at work on the next edition
		return o.Pruning <= e.Pruning
	}
	return max(o.First, o.Last) <= e.Through
}

// gone reports whether nothing is left of the generation.
func (e *Edition) gone() bool { return len(e.Segments) == 0 && len(e.Snapshots) == 0 }
