package pack

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/walback/walback/wal"
)

// counting counts the reads of an object.
type counting struct {
	io.ReaderAt
	reads atomic.Int64
}

func (c *counting) ReadAt(b []byte, off int64) (int, error) {
	c.reads.Add(1)
	return c.ReaderAt.ReadAt(b, off)
}

// opened is a Sealer that counts how often the block at each offset is opened.
type opened struct {
	Checksummed
	mu    sync.Mutex
	times map[int64]int
}

func (o *opened) Open(sealed []byte, place Place, off int64) ([]byte, error) {
	o.mu.Lock()
	o.times[off]++
	o.mu.Unlock()
	return o.Checksummed.Open(sealed, place, off)
}

// TestReads counts reads: one for all of a small object, one for the index and
// table of a larger one, one for each group.
func TestReads(t *testing.T) {
	small := newHistory(rand.New(rand.NewPCG(1, 1)), 4096, 3, 9, 4)
	b := small.encode(t, testPlace, WriterOptions{}, 0, 3)
	if len(b) > TailSize {
		t.Fatalf("%d bytes", len(b))
	}
	src := &counting{ReaderAt: bytes.NewReader(b)}
	r, err := Open(src, int64(len(b)), testPlace, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, small, r)
	if n := src.reads.Load(); n != 1 {
		t.Errorf("%d reads of a small object, want 1", n)
	}

	large := newHistory(rand.New(rand.NewPCG(1, 1)), 512, 300, 900, 40)
	b = large.encode(t, testPlace, WriterOptions{}, 0, 300)
	src = &counting{ReaderAt: bytes.NewReader(b)}
	seal := &opened{times: map[int64]int{}}
	r, err = Open(src, int64(len(b)), testPlace, ReaderOptions{Sealer: seal})
	if err != nil {
		t.Fatal(err)
	}
	if n := src.reads.Load(); n != 1 || len(r.root.index) < 2 {
		t.Fatalf("%d reads to open an object with %d index blocks, want 1 and several", n, len(r.root.index))
	}
	ref, _, err := r.Find(r.Info().MinPgno, wal.MaxTXID)
	if err != nil {
		t.Fatal(err)
	}
	before := src.reads.Load()
	if err := r.Read(ref, make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	if n := src.reads.Load() - before; n != 1 {
		t.Errorf("%d reads for a page, want 1", n)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for p := r.Info().MinPgno; p <= r.Info().MaxPgno; p++ {
				if _, _, err := r.Find(p, wal.MaxTXID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for off, n := range seal.times {
		if n > 1 {
			t.Errorf("the block at %d was decoded %d times", off, n)
		}
	}
}

// TestLongRoot: a root that is longer than the tail takes one more read.
func TestLongRoot(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(1, 1)), 512, 1, 1, 0)
	b := h.encode(t, testPlace, WriterOptions{}, 0, 1)
	r := open(t, b, testPlace)
	// A pack that needs one naturally has millions of pages: make up the root
	// of one, over groups and index blocks of nothing.
	big := root{Info: r.Info()}
	big.Versions, big.MinPgno, big.MaxPgno = 4000, 1, 4000
	for p := range big.Versions {
		big.index = append(big.index, indexEntry{pgno: wal.Pgno(p) + 1, txid: h.txns[0].ID, groups: 1, keys: 1, bytes: 10, stored: 20})
	}
	b = append(b[:headerSize], make([]byte, 4000*30)...)
	sealed := Checksummed{}.Seal(nil, appendBlock(nil, big.append(nil), true), testPlace, int64(len(b)))
	b = appendTrailer(append(b, sealed...), int64(len(b)), len(sealed), testPlace)

	src := &counting{ReaderAt: bytes.NewReader(b)}
	r, err := Open(src, int64(len(b)), testPlace, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := src.reads.Load(); n != 2 || len(sealed) < TailSize {
		t.Errorf("%d reads to open a pack with a root of %d bytes, want 2", n, len(sealed))
	}
	if _, _, err := r.Find(2000, wal.MaxTXID); err == nil { // zeros are no index block
		t.Error("found something in nothing")
	}
}

// TestSnapshot: the pages of a snapshot must have its checksum; those left out
// are zeros.
func TestSnapshot(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	for _, c := range []struct{ fuzzy, wrong bool }{{false, false}, {false, true}, {true, false}} {
		txn := wal.TxnInfo{ID: 7, Time: 1, Size: 300}
		image := make([][]byte, txn.Size)
		var b bytes.Buffer
		w := NewWriter(&b, Snapshot, 1024, testPlace, WriterOptions{Fuzzy: c.fuzzy, Concurrency: 2})
		var sum wal.Checksum
		for i := range image {
			image[i] = make([]byte, 1024)
			if i%7 != 0 {
				image[i] = randomPage(rnd, 1024)
				if err := w.Add(wal.Pgno(i+1), 7, image[i]); err != nil {
					t.Fatal(err)
				}
			}
			sum ^= wal.PageSum(wal.Pgno(i+1), image[i])
		}
		if !c.fuzzy {
			txn.Checksum = sum
		}
		if c.wrong {
			txn.Checksum++
		}
		if _, err := w.Finish([]wal.TxnInfo{txn}, wal.Mark{Txn: txn, PageSize: 1024}); err != nil {
			t.Fatal(err)
		}
		r := open(t, b.Bytes(), testPlace)
		if r.Info().Fuzzy != c.fuzzy || r.Info().Kind != Snapshot {
			t.Errorf("%+v", r.Info())
		}
		if err := r.Verify(); (err != nil) != c.wrong {
			t.Errorf("fuzzy %t, wrong checksum %t: Verify: %v", c.fuzzy, c.wrong, err)
		}
		if !bytes.Equal(rewrite(t, r, WriterOptions{}), b.Bytes()) {
			t.Error("writing what was read gives other bytes")
		}
	}
}

// forgetful is a Memory that keeps nothing.
type forgetful struct{ asked map[int64]int }

func (f forgetful) Get(off int64, load func() (any, int, error)) (any, error) {
	v, size, err := load()
	f.asked[off] += size
	return v, err
}

// TestMemory: everything is asked of the Memory that was given, and comes out
// right when it has to be loaded each time.
func TestMemory(t *testing.T) {
	h := newHistory(rand.New(rand.NewPCG(1, 1)), 512, 20, 50, 9)
	b := h.encode(t, testPlace, WriterOptions{GroupSize: 2048}, 0, len(h.txns))
	m := forgetful{map[int64]int{}}
	r, err := Open(bytes.NewReader(b), int64(len(b)), testPlace, ReaderOptions{Memory: m})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, h, r)
	if n := r.root.groups + len(r.root.index) + len(r.root.tables); len(m.asked) != n {
		t.Errorf("memory was asked for %d blocks of %d", len(m.asked), n)
	}
	for off, size := range m.asked {
		if size <= 0 {
			t.Errorf("the block at %d is said to take %d bytes", off, size)
		}
	}
}
