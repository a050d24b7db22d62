package pack

import "github.com/walback/walback/wal"

// AheadReader is what the source of a Reader may be besides an io.ReaderAt: one that
// keeps what it fetches.
type AheadReader interface {
	// ReadAhead begins to fetch n bytes from off on that are not kept, and does not
	// wait. What fails is met again by who reads it.
	ReadAhead(off, n int64)
}

// mostAhead is how many bytes are fetched by one request ahead, and gapAhead how
// many of these may be in vain between two blocks.
const (
	mostAhead = 1 << 20
	gapAhead  = 16 << 10
)

// Ahead puts together what is to be fetched ahead. What lies beside each other should
// be added in order.
type Ahead struct {
	from       *Reader
	begin, end int64
}

func (a *Ahead) add(r *Reader, off int64, stored int) {
	end := off + int64(stored)
	if r == a.from && off >= a.begin && off <= a.end+gapAhead && end-a.begin <= mostAhead {
		a.end = max(a.end, end)
		return
	}
	a.Send()
	*a = Ahead{r, off, end}
}

// Add adds a group of r.
func (a *Ahead) Add(r *Reader, e Extent) {
	in, off, err := r.part(e.Off)
	if err == nil { // else it is met by who reads the group
		a.add(in, off, e.Stored)
	}
}

// Send begins to fetch what was added last.
func (a *Ahead) Send() {
	if a.from == nil {
		return
	}
	if src, ok := a.from.src.(AheadReader); ok && a.begin < a.from.tailAt {
		src.ReadAhead(a.begin, a.end-a.begin)
	}
}

// Foresee begins to fetch what tells where the pages from first to last lie.
func (r *Reader) Foresee(first, last wal.Pgno) {
	var a Ahead
	defer a.Send()
	if r.root.mapped != nil {
		r.foreseeLeaves(&a, first, last)
		return
	}
	k := key(first) << 32
	for n := max(r.lastIndex(k), 0); n < len(r.root.index) && r.root.index[n].pgno <= last; n++ {
		a.add(r, r.root.index[n].at, r.root.index[n].stored)
	}
}

func (r *Reader) foreseeLeaves(a *Ahead, first, last wal.Pgno) {
	n, _ := leafOf(max(first, 1))
	end, _ := leafOf(max(last, 1))
	for ; n <= end && n < len(r.root.mapped.leaves); n++ {
		e := r.root.mapped.leaves[n]
		if e.object == 0 {
			continue
		}
		if in, err := r.object(e.object); err == nil { // an error is met by who reads it
			a.add(in, e.off, e.stored)
		}
	}
}
