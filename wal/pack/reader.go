package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/walback/walback/wal"
)

// Reader reads a pack. It is safe for concurrent use. Everything it returns has
// been verified; what is damaged gives a *CorruptError. It holds nothing that
// needs closing.
type Reader struct {
	src    io.ReaderAt
	size   int64
	place  Place
	sealer Sealer
	memory Memory
	own    *ownMemory // memory, when the Reader was given none
	root   *root
	rootAt int64 // where the root lies

	// tail is what Open has read of the end of the object, from tailAt on.
	// Blocks that lie in it need no further read.
	tail   []byte
	tailAt int64

	elsewhere Elsewhere // of a map
	others    sync.Map  // of a map: number of an object → *Reader that can read its blocks
}

// ReaderOptions says how a pack is read; the zero value is fine.
type ReaderOptions struct {
	// Memory keeps decoded blocks. When nil, the Reader keeps its index, its
	// transaction table, and the last group.
	Memory Memory
	// Sealer must be what the pack was written with: Checksummed when nil.
	Sealer Sealer
	// Tail is how many bytes of its end to read of the object first: TailSize
	// when zero.
	Tail int
	// Elsewhere is needed to read a map, unless all of it lies in the object.
	Elsewhere Elsewhere
}

// Open opens the pack of size bytes in src that was written for place. It reads
// the last TailSize bytes (or o.Tail) at once, and once more only when the root does not lie
// in them.
func Open(src io.ReaderAt, size int64, place Place, o ReaderOptions) (*Reader, error) {
	r := &Reader{src: src, size: size, place: place, sealer: o.Sealer, memory: o.Memory, elsewhere: o.Elsewhere}
	if r.sealer == nil {
		r.sealer = Checksummed{}
	}
	if size < headerSize+trailerSize {
		return nil, r.corrupt(0, "only %d bytes: truncated, or no pack", size)
	}
	tail := min(size, int64(max(o.Tail, trailerSize)))
	if o.Tail == 0 {
		tail = min(size, TailSize)
	}
	r.tail, r.tailAt = make([]byte, tail), size-tail
	if err := r.readAt(r.tail, r.tailAt); err != nil {
		return nil, err
	}
	off, n, err := parseTrailer(r.tail[len(r.tail)-trailerSize:], size, place)
	if err != nil {
		return nil, err
	}
	plain, err := r.block(off, n, maxMeta, "root")
	if err != nil {
		return nil, err
	}
	root, ok := parseRoot(plain, off)
	if !ok {
		return nil, r.corrupt(off, "the root makes no sense")
	}
	r.root, r.rootAt = root, off
	if r.tailAt == 0 {
		if err := r.checkHeader(r.tail[:headerSize]); err != nil {
			return nil, err
		}
	}
	if r.memory == nil {
		r.own = newOwnMemory(root)
		r.memory = r.own
	}
	return r, nil
}

// Info returns what the root tells.
func (r *Reader) Info() Info { return r.root.Info }

// Place returns the place the pack was opened for.
func (r *Reader) Place() Place { return r.place }

// Size returns the length of the object in bytes.
func (r *Reader) Size() int64 { return r.size }

// checkHeader compares the first bytes of the object with the root.
func (r *Reader) checkHeader(b []byte) error {
	if !bytes.Equal(b, appendHeader(nil, r.root.Kind, r.root.PageSize, r.root.Fuzzy)) {
		return r.corrupt(0, "header and root differ")
	}
	return nil
}

// block returns the plaintext, of at most limit bytes, of the block of n stored
// bytes at off. what names it in errors. The result must not be changed.
func (r *Reader) block(off int64, n, limit int, what string) ([]byte, error) {
	stored, err := r.stored(nil, off, n)
	if err != nil {
		return nil, err
	}
	return r.decode(nil, stored, off, limit, what)
}

// stored returns the n bytes at off as they are, in buf's memory if they have
// to be read and there is room. They must not be changed.
func (r *Reader) stored(buf []byte, off int64, n int) ([]byte, error) {
	if at := off - r.tailAt; at >= 0 {
		return r.tail[at : at+int64(n)], nil
	}
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	return buf[:n], r.readAt(buf[:n], off)
}

// decode opens and decodes what stored returned. The plaintext lies in dst's
// memory if there is room; with a nil dst it may lie in that of stored, and must
// not be changed.
func (r *Reader) decode(dst, stored []byte, off int64, limit int, what string) ([]byte, error) {
	block, err := r.sealer.Open(stored, r.place, off)
	if err == nil {
		block, err = decodeBlock(dst, block, limit)
	}
	if err != nil {
		return nil, r.corrupt(off, "%s: %v", what, err)
	}
	return block, nil
}

// readAt fills b from off on.
func (r *Reader) readAt(b []byte, off int64) error {
	n, err := r.src.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	return r.readError(n, len(b), off, err)
}

// readError is what reading want bytes at off fails with when n came, and err.
func (r *Reader) readError(n, want int, off int64, err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.corrupt(off+int64(n), "the object ends here, and should have %d bytes", r.size)
	}
	return fmt.Errorf("generation %s: %s: reading %d bytes at %d: %w", r.place.Generation, r.place.Name, want, off, err)
}

func (r *Reader) corrupt(off int64, format string, args ...any) error {
	return &CorruptError{Place: r.place, Off: off, What: fmt.Sprintf(format, args...)}
}

// indexBlock returns index block n, decoded at most once while memory has it.
func (r *Reader) indexBlock(n int) (*index, error) {
	if r.own != nil {
		if x := r.own.index[n].Load(); x != nil {
			return x, nil
		}
	}
	x, err := r.loadIndex(n)
	if err == nil && r.own != nil {
		r.own.index[n].Store(x)
	}
	return x, err
}

// loadIndex asks memory for index block n.
func (r *Reader) loadIndex(n int) (*index, error) {
	e := &r.root.index[n]
	v, err := r.memory.Get(e.at, func() (any, int, error) {
		begin, end := around(n, len(r.root.index), blocksAround, func(i int) (int64, int, bool) {
			return r.root.index[i].at, r.root.index[i].stored, true
		})
		stored, err := r.storedAround(e.at, e.stored, begin, end)
		if err != nil {
			return nil, 0, err
		}
		plain, err := r.decode(nil, stored, e.at, maxMeta, fmt.Sprintf("index block %d", n))
		if err != nil {
			return nil, 0, err
		}
		x, ok := parseIndex(r.root, n, plain, r.sealer.Overhead())
		if !ok {
			return nil, 0, r.corrupt(e.at, "index block %d makes no sense", n)
		}
		return x, x.memory(), nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*index), nil
}

// table returns block n of the transaction table.
func (r *Reader) table(n int) ([]wal.TxnInfo, error) {
	e := &r.root.tables[n]
	v, err := r.memory.Get(e.at, func() (any, int, error) {
		begin, end := around(n, len(r.root.tables), tablesAround, func(i int) (int64, int, bool) {
			return r.root.tables[i].at, r.root.tables[i].stored, true
		})
		stored, err := r.storedAround(e.at, e.stored, begin, end)
		if err != nil {
			return nil, 0, err
		}
		plain, err := r.decode(nil, stored, e.at, maxMeta, fmt.Sprintf("transaction table %d", n))
		if err != nil {
			return nil, 0, err
		}
		txns, ok := r.root.table(n, plain)
		if !ok {
			return nil, 0, r.corrupt(e.at, "transaction table %d makes no sense", n)
		}
		return txns, 40 * len(txns), nil
	})
	if err != nil {
		return nil, err
	}
	return v.([]wal.TxnInfo), nil
}
