package pack

// Blocks that tell where pages lie are small, and who wants one will soon want
// those beside it: a random page of a database of 200 MB needs one of a dozen. So
// they are fetched some at a time.
const (
	blocksAround = 16       // index blocks, about 20 KiB each
	leavesAround = 32       // leaves, about 8 KiB each
	tablesAround = 4        // blocks of the transaction table, about 50 KiB each
	gapAround    = 16 << 10 // bytes between two that are fetched with them
)

// AroundReader is what the source of a Reader may be besides an io.ReaderAt: one
// that keeps what it fetches.
type AroundReader interface {
	// ReadAround fills p with the bytes from off on. If they have to be fetched,
	// those from begin to end, which lie around them, should be as well.
	ReadAround(p []byte, off, begin, end int64) error
}

// around returns the bytes of the blocks around block n of count, of which where
// tells the place; false ends what lies together. per of them are taken together.
func around(n, count, per int, where func(i int) (off int64, stored int, ok bool)) (begin, end int64) {
	off, stored, _ := where(n)
	begin, end = off, off+int64(stored)
	low := n - n%per
	for i := n - 1; i >= low; i-- {
		off, stored, ok := where(i)
		behind := off + int64(stored)
		if !ok || behind > begin || begin-behind > gapAround {
			break
		}
		begin = off
	}
	for i := n + 1; i < min(low+per, count); i++ {
		off, stored, ok := where(i)
		if !ok || off < end || off-end > gapAround {
			break
		}
		end = off + int64(stored)
	}
	return begin, end
}

// storedAround returns the n bytes at off as they are, reading those from begin
// to end on occasion. They must not be changed.
func (r *Reader) storedAround(off int64, n int, begin, end int64) ([]byte, error) {
	src, ok := r.src.(AroundReader)
	if !ok || off >= r.tailAt {
		return r.stored(nil, off, n)
	}
	b := make([]byte, n)
	if err := src.ReadAround(b, off, begin, end); err != nil {
		return nil, r.readError(0, n, off, err)
	}
	return b, nil
}
