package pack

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/walback/walback/wal"
)

// readAll opens b and reads it in every way, and returns the first error. It
// fails when anything is returned that h does not have.
func readAll(t *testing.T, h *history, b []byte, place Place) error {
	t.Helper()
	r, err := Open(bytes.NewReader(b), int64(len(b)), place, ReaderOptions{})
	if err != nil {
		return err
	}
	if r.Info().Mark != h.mark() || r.Info().First != h.txns[0] {
		t.Fatal("Open told what was never written")
	}
	var errs []error
	page := make([]byte, h.pageSize)
	for p, versions := range h.versions {
		for id, want := range versions {
			ref, ok, err := r.Find(p, id)
			if err == nil && !ok {
				t.Fatalf("page %d of transaction %d is not found", p, id)
			}
			if err == nil {
				err = r.Read(ref, page)
			}
			if err == nil && !bytes.Equal(page, want) {
				t.Fatalf("page %d of transaction %d: wrong bytes and no error", p, id)
			}
			errs = append(errs, err)
		}
	}
	txns, err := r.Txns()
	if err == nil && !slices.Equal(txns, h.txns) {
		t.Fatal("wrong transactions and no error")
	}
	return errors.Join(append(errs, err, r.Verify())...)
}

// TestDamage flips every bit of one byte after the other, and cuts the object
// off at every length. It is always noticed, and nothing wrong is ever returned.
func TestDamage(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, o := range []WriterOptions{{GroupSize: 1024}, {GroupSize: 1024, Raw: true}} {
		h := newHistory(rnd, 512, 5, 6, 3)
		b := h.encode(t, testPlace, o, 0, len(h.txns))
		if err := readAll(t, h, b, testPlace); err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] ^= 1 << (i % 8)
			mustBeCorrupt(t, readAll(t, h, b, testPlace))
			b[i] ^= 1 << (i % 8)
		}
		for n := range b {
			mustBeCorrupt(t, readAll(t, h, b[:n], testPlace))
		}
		mustBeCorrupt(t, readAll(t, h, append(slices.Clone(b), 0), testPlace))
	}
}

// TestDamageLarge does some of it on an object that is larger than what Open
// reads, so that damage is met later.
func TestDamageLarge(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	h := newHistory(rnd, 512, 100, 200, 12)
	b := h.encode(t, testPlace, WriterOptions{GroupSize: 8192}, 0, len(h.txns))
	if len(b) < 2*TailSize {
		t.Fatalf("only %d bytes", len(b))
	}
	for i := 0; i < len(b); i += 1 + rnd.IntN(len(b)/60) {
		bit := byte(1) << rnd.IntN(8)
		b[i] ^= bit
		mustBeCorrupt(t, readAll(t, h, b, testPlace))
		b[i] ^= bit
	}
}

func mustBeCorrupt(t *testing.T, err error) {
	t.Helper()
	var c *CorruptError
	if !errors.Is(err, ErrCorrupt) || !errors.As(err, &c) {
		t.Fatalf("damage gives %v", err)
	}
	if c.Place != testPlace || !strings.Contains(err.Error(), testPlace.Name) {
		t.Fatalf("the error does not name the object: %v", err)
	}
}

// TestMoved: blocks and objects that are intact, but not where they were
// written to.
func TestMoved(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(9, 10)), 512, 5, 6, 3)
	other := Place{testPlace.Generation, "wal/0000000002.wal"}
	mustBeCorrupt(t, readAll(t, h, h.encode(t, other, WriterOptions{}, 0, 5), testPlace))
	other = Place{"00000123456789ac", testPlace.Name}
	mustBeCorrupt(t, readAll(t, h, h.encode(t, other, WriterOptions{}, 0, 5), testPlace))

	// Two raw groups of the same length change places.
	h = &history{pageSize: 512, txns: h.txns[:1], versions: map[wal.Pgno]map[wal.TXID][]byte{
		1: {h.txns[0].ID: bytes.Repeat([]byte{1}, 512)},
		2: {h.txns[0].ID: bytes.Repeat([]byte{2}, 512)},
	}}
	h.txns[0].Size, h.txns[0].Pages = 2, 2
	b := h.encode(t, testPlace, WriterOptions{Raw: true, GroupSize: 512}, 0, 1)
	n := 512 + 1 + sumSize
	one, two := b[headerSize:][:n], b[headerSize+n:][:n]
	saved := slices.Clone(one)
	copy(one, two)
	copy(two, saved)
	mustBeCorrupt(t, readAll(t, h, b, testPlace))
}

// failing is an object whose bytes from off on cannot be read.
type failing struct {
	*bytes.Reader
	off int64
}

var errDisk = errors.New("disk on fire")

func (f failing) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > f.off {
		return 0, errDisk
	}
	return f.Reader.ReadAt(b, off)
}

// TestReadError: an error reading is not corruption, and an object that is
// shorter than it was said to be is.
func TestReadError(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(7, 8)), 512, 100, 200, 12)
	b := h.encode(t, testPlace, WriterOptions{}, 0, len(h.txns))
	src := &failing{bytes.NewReader(b), int64(len(b)) - 1}
	if _, err := Open(src, int64(len(b)), testPlace, ReaderOptions{}); !errors.Is(err, errDisk) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("Open: %v", err)
	}
	src.off = int64(len(b))
	r, err := Open(src, int64(len(b)), testPlace, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	src.off = 20
	if err := r.Verify(); !errors.Is(err, errDisk) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("Verify: %v", err)
	}
	src.off = int64(len(b)) // it works again: no error was kept
	if err := r.Verify(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(bytes.NewReader(b), int64(len(b))+10, testPlace, ReaderOptions{})
	mustBeCorrupt(t, err)
}

// TestLaterVersion: an intact object of a later format is not called corrupt.
func TestLaterVersion(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(9, 10)), 512, 5, 6, 3)
	b := h.encode(t, testPlace, WriterOptions{}, 0, 5)
	at := len(b) - trailerSize
	body := b[at : at+16]
	body[12] = FormatVersion + 1
	Checksummed{}.Seal(body[:0], body, testPlace, int64(at))
	_, err := Open(bytes.NewReader(b), int64(len(b)), testPlace, ReaderOptions{})
	if !errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt) {
		t.Fatalf("Open: %v", err)
	}
}

// short accepts n bytes and fails then.
type short struct{ n int }

func (s *short) Write(b []byte) (int, error) {
	if s.n -= len(b); s.n < 0 {
		return 0, errDisk
	}
	return len(b), nil
}

var _ io.Writer = (*short)(nil)

// TestWriteError: a writer that failed stays failed.
func TestWriteError(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(7, 8)), 512, 100, 200, 12)
	size := len(h.encode(t, testPlace, WriterOptions{}, 0, len(h.txns)))
	r := open(t, h.encode(t, testPlace, WriterOptions{}, 0, len(h.txns)), testPlace)
	for n := 0; n < size; n += 1 + size/20 {
		for concurrency := range 3 {
			_, err := Merge(&short{n}, testPlace, WriterOptions{Concurrency: concurrency}, r)
			if !errors.Is(err, errDisk) {
				t.Fatalf("disk full after %d bytes: %v", n, err)
			}
		}
	}
	w := NewWriter(&short{100}, Segment, 65536, testPlace, WriterOptions{Raw: true})
	page := make([]byte, 65536)
	var err error
	for p := wal.Pgno(1); err == nil; p++ {
		err = w.Add(p, 1, page)
	}
	if again := w.Add(1000, 1, page); again != err {
		t.Fatalf("Add after %v: %v", err, again)
	}
	if _, again := w.Finish(h.txns, h.mark()); again != err {
		t.Fatalf("Finish after %v: %v", err, again)
	}
}

// TestWrongPage: an index that is intact and tells of another page than lies
// where it says, which only a wrong program can have written, is not believed.
func TestWrongPage(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(11, 12)), 512, 5, 6, 3)
	b := h.encode(t, testPlace, WriterOptions{}, 0, len(h.txns))
	r := open(t, b, testPlace)
	x, err := r.indexBlock(0)
	if err != nil {
		t.Fatal(err)
	}
	last := len(x.sums) - 1
	x.sums[0], x.sums[last] = x.sums[last], x.sums[0]
	p, id := r.root.split(x.keys[0])
	ref, ok, err := r.Find(p, id)
	if err != nil || !ok {
		t.Fatalf("%v, found %t", err, ok)
	}
	mustBeCorrupt(t, r.Read(ref, make([]byte, 512)))
	mustBeCorrupt(t, r.Verify())
	if _, err := Merge(&bytes.Buffer{}, testPlace, WriterOptions{}, r); !errors.Is(err, ErrCorrupt) {
		t.Errorf("merging it: %v", err)
	}
}
