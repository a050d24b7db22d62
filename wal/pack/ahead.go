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
	gapAhead  = 64 << 10
)

// ahead puts together what is to be fetched ahead.
type ahead struct {
	from       *Reader
	begin, end int64
}

func (a *ahead) add(r *Reader, off int64, stored int) {
	end := off + int64(stored)
	if r == a.from && off >= a.begin && off <= a.end+gapAhead && end-a.begin <= mostAhead {
		a.end = max(a.end, end)
		return
	}
	a.send()
	*a = ahead{r, off, end}
}

func (a *ahead) send() {
	if a.from == nil {
		return
	}
	if src, ok := a.from.src.(AheadReader); ok && a.begin < a.from.tailAt {
		src.ReadAhead(a.begin, a.end-a.begin)
	}
}

// Foresee begins to fetch what tells where the pages from first to last lie.
func (r *Reader) Foresee(first, last wal.Pgno) {
	var a ahead
	defer a.send()
	if r.root.mapped != nil {
		r.foreseeLeaves(&a, first, last)
		return
	}
	k := key(first) << 32
	for n := max(r.lastIndex(k), 0); n < len(r.root.index) && r.root.index[n].pgno <= last; n++ {
		a.add(r, r.root.index[n].at, r.root.index[n].stored)
	}
}

func (r *Reader) foreseeLeaves(a *ahead, first, last wal.Pgno) {
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
