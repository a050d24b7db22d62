package pack

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/walback/walback/wal"
)

// trusting is a Sealer that finds everything intact, so that a fuzzer gets past
// the checksums.
type trusting struct{ Checksummed }

func (trusting) Open(sealed []byte, _ Place, _ int64) ([]byte, error) {
	if len(sealed) < sumSize {
		return nil, errSum
	}
	return sealed[:len(sealed)-sumSize], nil
}

// FuzzOpen reads arbitrary bytes as an object: first as they are, then with a
// root behind them, a trailer that is right for it, and checksums ignored.
func FuzzOpen(f *testing.F) {
	for seed := range uint64(4) {
		h := newHistory(rand.New(rand.NewPCG(seed, 1)), 512, 1+int(seed)*2, 9, 3)
		b := h.encode(f, testPlace, WriterOptions{GroupSize: 1024, Raw: seed%2 == 0}, 0, len(h.txns))
		off, _, err := parseTrailer(b[len(b)-trailerSize:], int64(len(b)), testPlace)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:off], open(f, b, testPlace).root.append(nil))
	}
	f.Fuzz(func(t *testing.T, b, root []byte) {
		exercise(t, b, Checksummed{})
		sealed := Checksummed{}.Seal(nil, appendBlock(nil, root, true), testPlace, 0)
		object := append(bytes.Clone(b), sealed...)
		exercise(t, appendTrailer(object, int64(len(b)), len(sealed), testPlace), trusting{})
	})
}

// exercise reads b in every way. It may find nothing but corruption, and what
// verifies must be what Writer writes.
func exercise(t *testing.T, b []byte, s Sealer) {
	check := func(err error) bool {
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatalf("reading memory gives %v", err)
		}
		return err == nil
	}
	r, err := Open(bytes.NewReader(b), int64(len(b)), testPlace, ReaderOptions{Sealer: s})
	if !check(err) {
		return
	}
	_, err = r.Txns()
	check(err)
	page := make([]byte, r.Info().PageSize)
	for _, p := range []wal.Pgno{1, r.Info().MinPgno, r.Info().MaxPgno} {
		ref, ok, err := r.Find(p, wal.MaxTXID)
		if check(err) && ok {
			check(r.Read(ref, page))
		}
	}
	if r.Info().First.Size > 1<<16 { // Verify looks at every page of a snapshot
		return
	}
	if check(r.Verify()) {
		rewrite(t, r, WriterOptions{})
	}
}

// FuzzRoot: what parses encodes to the same bytes again.
func FuzzRoot(f *testing.F) {
	for seed := range uint64(4) {
		h := newHistory(rand.New(rand.NewPCG(seed, 1)), 512, 1+int(seed)*2, 9, 3)
		b := h.encode(f, testPlace, WriterOptions{GroupSize: 1024}, 0, len(h.txns))
		r := open(f, b, testPlace)
		off, _, err := parseTrailer(b[len(b)-trailerSize:], int64(len(b)), testPlace)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.root.append(nil), off)
	}
	f.Fuzz(func(t *testing.T, b []byte, end int64) {
		r, ok := parseRoot(b, end)
		if !ok {
			return
		}
		if again := r.append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x parses, and encodes to %x", b, again)
		}
	})
}

// FuzzIndex: what parses encodes to the same bytes again.
func FuzzIndex(f *testing.F) {
	const txns = 20
	rnd := rand.New(rand.NewPCG(1, 1))
	for groups := 1; groups < 5; groups++ {
		var b []byte
		var c keyCoder
		p, id, size := wal.Pgno(1+rnd.IntN(9)), wal.TXID(1+rnd.IntN(txns)), int64(0)
		first := version{p, id}
		for range groups {
			var keys []byte
			for range 3 {
				keys = c.append(keys, p, id)
				if id++; id > txns || rnd.IntN(2) == 0 {
					p, id = p+1+wal.Pgno(rnd.IntN(99)), wal.TXID(1+rnd.IntN(txns))
				}
			}
			size += 300
			b = appendGroupKeys(b, 300, 3, keys)
		}
		f.Add(b, uint32(first.pgno), uint64(first.id), uint16(groups), uint16(c.len), size)
	}
	f.Fuzz(func(t *testing.T, b []byte, pgno uint32, txid uint64, groups, keys uint16, size int64) {
		r := &root{Info: Info{PageSize: 512, First: wal.TxnInfo{ID: 1}, Last: wal.TxnInfo{ID: txns}, Txns: txns, MaxPgno: 1000}}
		e := indexEntry{
			pgno: wal.Pgno(pgno), txid: wal.TXID(txid), groups: int(groups), keys: int(keys), bytes: size, groupsAt: headerSize,
		}
		if groups == 0 || keys < groups || txid == 0 || txid > txns || size < 0 { // parseRoot sees to that
			return
		}
		e.first = r.key(e.pgno, e.txid)
		r.index = []indexEntry{e}
		x, ok := parseIndex(r, 0, b, sumSize)
		if !ok {
			return
		}
		var again []byte
		var c keyCoder
		for g := range groups {
			var coded []byte
			_, stored, count := x.extent(int(g))
			for i := range count {
				p, id := r.split(x.keys[x.keysBefore(int(g))+i])
				coded = c.append(coded, p, id)
			}
			again = appendGroupKeys(again, stored, count, coded)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x parses, and encodes to %x", b, again)
		}
	})
}

// FuzzTable: what parses encodes to the same bytes again.
func FuzzTable(f *testing.F) {
	for seed := range uint64(4) {
		h := newHistory(rand.New(rand.NewPCG(seed, 1)), 512, 3+int(seed)*2, 9, 3)
		first := h.txns[0]
		f.Add(appendTable(nil, first, h.txns), uint16(len(h.txns)), int64(first.Time), uint32(first.Size))
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint16, at int64, size uint32) {
		first := wal.TxnInfo{ID: 1, Time: wal.Time(at), Size: wal.Pgno(size)}
		txns, ok := parseTable(b, first, 1, int(n%(txnsPerTable+1)))
		if ok && !bytes.Equal(appendTable(nil, first, txns), b) {
			t.Fatalf("%x parses, and encodes otherwise", b)
		}
	})
}
