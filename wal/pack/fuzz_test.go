package pack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
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

// seeds calls add with small packs of every sort, and the largest ones' little
// siblings.
func seeds(f *testing.F, add func(object []byte, r *Reader)) {
	for seed := range uint64(4) {
		h := newHistory(rand.New(rand.NewPCG(seed, 1)), 512, 1+int(seed)*2, 9, 3)
		b := h.encode(f, testPlace, WriterOptions{GroupSize: 1024, Raw: seed%2 == 0}, 0, len(h.txns))
		add(b, open(f, b, testPlace))
	}
	own := newMapped(rand.New(rand.NewPCG(9, 9)), 30)
	b := own.store(f, testPlace, nil, func(p wal.Pgno) bool { return p%7 > 0 }).bytes
	add(b, open(f, b, testPlace))
	files, err := filepath.Glob("testdata/v*/*.pack")
	if err != nil || len(files) == 0 {
		f.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if place := corpusPlace(file); len(b) < 32<<10 && place == testPlace {
			add(b, open(f, b, testPlace))
		}
	}
}

// FuzzOpen reads arbitrary bytes as an object: first as they are, then with a
// root behind them, a trailer that is right for it, and checksums ignored.
func FuzzOpen(f *testing.F) {
	seeds(f, func(b []byte, r *Reader) { f.Add(b[:r.rootAt], r.root.append(nil)) })
	f.Fuzz(func(t *testing.T, b, root []byte) {
		exercise(t, b, Checksummed{})
		sealed := Checksummed{}.Seal(nil, appendBlock(nil, root, true), testPlace, 0)
		object := append(bytes.Clone(b), sealed...)
		exercise(t, appendTrailer(object, int64(len(b)), len(sealed), testPlace), trusting{})
		_, err := decodeBlock(nil, b, maxMeta)
		_, again := decodeBlock(make([]byte, 0, 100), b, maxMeta)
		if (err == nil) != (again == nil) {
			t.Fatalf("a block decodes with %v and %v", err, again)
		}
	})
}

// exercise reads b in every way. It may find nothing but corruption, and what
// verifies must be what Writer writes. It must take no more memory than b can
// account for.
func exercise(t *testing.T, b []byte, s Sealer) {
	check := func(err error) bool {
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatalf("reading memory gives %v", err)
		}
		return err == nil
	}
	before := allocated()
	elsewhere := func(Place, int64) (io.ReaderAt, Memory) { return bytes.NewReader(b), nil }
	r, err := Open(bytes.NewReader(b), int64(len(b)), testPlace, ReaderOptions{Sealer: s, Elsewhere: elsewhere})
	within(t, before, len(b), "Open")
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
		within(t, before, len(b), "Find and Read")
	}
	middle := r.Info().First.ID + wal.TXID(r.Info().Txns/2)
	txn, ok, err := r.Txn(middle)
	if check(err) && (ok != (middle <= r.Info().Last.ID) || ok && txn.ID != middle) {
		t.Fatalf("transaction %d is %+v, %v", middle, txn, ok)
	}
	if r.Info().Kind != Map && r.Info().Versions > 0 {
		pages, err := readGroup(r, 0, page[:0])
		if check(err) && (len(pages) == 0 || len(pages)%len(page) != 0) {
			t.Fatalf("a group of %d bytes", len(pages))
		}
	}
	for _, at := range []wal.Time{r.Info().First.Time, r.Info().Last.Time, r.Info().Last.Time - 1} {
		_, _, err := r.TxnAt(at)
		check(err)
	}
	if r.Info().First.Size > 1<<16 { // Verify looks at every page of a snapshot
		return
	}
	if check(r.Verify()) && r.Info().Kind != Map {
		rewrite(t, r, WriterOptions{})
	}
}

// allocated returns how many bytes have been allocated since the process began.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// within fails when more has been allocated since before than decoding n bytes,
// a few times over, can be worth. A zstd decoder takes some that is not counted
// against them.
func within(t *testing.T, before uint64, n int, what string) {
	t.Helper()
	const decoder = 4 << 20
	if took := allocated() - before; took > decoder+8*maxRatio*uint64(n) {
		t.Fatalf("%s has allocated %d bytes for an object of %d", what, took, n)
	}
}

// FuzzDamage writes a pack, damages it, and reads it in every way, alone and
// merged with another. What is read is what was written, or the error says that
// it is damaged.
func FuzzDamage(f *testing.F) {
	for i, edits := range []string{"", "\x00\x10\x00\x01\x01", "\x01\x40\x00\x00\x00", "\x02\x20\x00\x30\x00\x10", "\x03\x80\x00\x07", "\x04\x00\x01\x05", "\x05\x10\x00\x90\x00\x20"} {
		f.Add(uint64(i), byte(3*i), []byte(edits))
	}
	f.Fuzz(func(t *testing.T, seed uint64, how byte, edits []byte) {
		h := newHistory(rand.New(rand.NewPCG(seed, 1)), 512, 1+int(how%5), 6, 3)
		o := WriterOptions{GroupSize: 512 << (how >> 5 & 3), Raw: how&128 != 0}
		n := len(h.txns)
		b := h.encode(t, testPlace, o, 0, n)
		if damaged := damage(bytes.Clone(b), edits); !bytes.Equal(damaged, b) {
			mustBeCorrupt(t, readAll(t, h, damaged, testPlace))
		}
		if n < 2 {
			return
		}
		parts := [][]byte{h.encode(t, testPlace, o, 0, n/2), h.encode(t, testPlace, o, n/2, n)}
		parts[how>>4&1] = damage(parts[how>>4&1], edits)
		var merged bytes.Buffer
		if err := mergeObjects(&merged, o, parts...); err != nil {
			mustBeCorrupt(t, err)
		} else if !bytes.Equal(merged.Bytes(), b) {
			t.Fatal("merging a damaged pack gives other bytes than merging what was written, and no error")
		}
	})
}

// mergeObjects opens packs and merges them into w.
func mergeObjects(w *bytes.Buffer, o WriterOptions, objects ...[]byte) error {
	var parts []*Reader
	for _, b := range objects {
		r, err := Open(bytes.NewReader(b), int64(len(b)), testPlace, ReaderOptions{})
		if err != nil {
			return err
		}
		parts = append(parts, r)
	}
	_, err := Merge(w, testPlace, o, parts...)
	return err
}

// damage changes b as edits say, in the ways in which files and transfers are
// damaged.
func damage(b, edits []byte) []byte {
	next := func() int {
		if len(edits) == 0 {
			return 0
		}
		v := edits[0]
		edits = edits[1:]
		return int(v)
	}
	at := func() int { return (next()<<8 | next()) * (len(b) + 1) >> 16 }
	for len(edits) > 0 && len(b) > 0 {
		switch next() % 6 {
		case 0: // bits flipped
			if i := at(); i < len(b) {
				b[i] ^= byte(next())
			}
		case 1: // cut off
			b = b[:at()]
		case 2: // a part overwritten with another
			i, j, n := at(), at(), next()
			copy(b[i:], bytes.Clone(b[j:min(j+n, len(b))]))
		case 3: // a part lost
			i := at()
			b = slices.Delete(b, i, min(i+next(), len(b)))
		case 4: // a part that was never written
			i := at()
			clear(b[i:min(i+16*next(), len(b))])
		case 5: // something in between
			b = slices.Insert(b, at(), bytes.Repeat([]byte{byte(next())}, next())...)
		}
	}
	return b
}

// FuzzBlocks parses the plaintexts of blocks: what parses encodes to the same
// bytes again.
func FuzzBlocks(f *testing.F) {
	const txns = 20
	seeds(f, func(_ []byte, r *Reader) {
		f.Add(byte(0), r.root.append(nil), uint32(0), uint64(0), uint16(0), uint16(0), r.rootAt)
		all, err := r.Txns()
		if err != nil {
			f.Fatal(err)
		}
		first := all[0]
		f.Add(byte(2), appendTable(nil, first, all), uint32(first.Size), uint64(first.Time), uint16(len(all)), uint16(0), int64(0))
	})
	rnd := rand.New(rand.NewPCG(1, 1))
	for groups := 1; groups < 5; groups++ {
		b, first, keys := randomIndex(rnd, groups, txns)
		f.Add(byte(1), b, uint32(first.pgno), uint64(first.id), uint16(groups), uint16(keys), int64(300*groups))
	}
	for range 4 {
		f.Add(byte(3), randomLeaf(rnd).append(nil), uint32(0), uint64(0), uint16(0), uint16(0), int64(0))
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte, pgno uint32, n uint64, count, keys uint16, size int64) {
		before := allocated()
		var again []byte
		switch which % 4 {
		case 0:
			r, ok := parseRoot(b, size)
			within(t, before, len(b), "parsing a root")
			if !ok {
				return
			}
			again = r.append(nil)
		case 1:
			r := &root{Info: Info{PageSize: 512, First: wal.TxnInfo{ID: 1}, Last: wal.TxnInfo{ID: txns}, Txns: txns, MaxPgno: 1000}}
			e := indexEntry{
				pgno: wal.Pgno(pgno), txid: wal.TXID(n), groups: int(count), keys: int(keys), bytes: size, groupsAt: headerSize,
			}
			if pgno == 0 || count == 0 || keys < count || n == 0 || n > txns || size < 0 { // parseRoot sees to that
				return
			}
			e.first = r.key(e.pgno, e.txid)
			r.index = []indexEntry{e}
			x, ok := parseIndex(r, 0, b, sumSize)
			within(t, before, len(b), "parsing an index block")
			if !ok {
				return
			}
			again = encodeIndex(r, x)
		case 2:
			first := wal.TxnInfo{ID: 1, Time: wal.Time(n), Size: wal.Pgno(pgno)}
			all, ok := parseTable(b, first, 1, int(count%(txnsPerTable+1)))
			within(t, before, len(b), "parsing a transaction table")
			if !ok {
				return
			}
			again = appendTable(nil, first, all)
		case 3:
			l, ok := parseLeaf(b, 512, sumSize)
			within(t, before, len(b), "parsing a leaf")
			if !ok {
				return
			}
			again = l.append(nil)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x parses, and encodes to %x", b, again)
		}
	})
}

// randomIndex makes up an index block of groups of three versions each.
func randomIndex(rnd *rand.Rand, groups, txns int) (b []byte, first version, count int) {
	var c keyCoder
	p, id := wal.Pgno(1+rnd.IntN(9)), wal.TXID(1+rnd.IntN(txns))
	first = version{p, id}
	for range groups {
		var keys []byte
		for range 3 {
			keys = c.append(keys, p, id)
			if id++; id > wal.TXID(txns) || rnd.IntN(2) == 0 {
				p, id = p+1+wal.Pgno(rnd.IntN(99)), wal.TXID(1+rnd.IntN(txns))
			}
		}
		b = appendGroupKeys(b, 300, 3, keys, randomPage(rnd, 12))
	}
	return b, first, c.len
}

// encodeIndex is the inverse of parseIndex.
func encodeIndex(r *root, x *index) []byte {
	var b []byte
	var c keyCoder
	for g := range x.ends {
		var coded, sums []byte
		_, stored, count := x.extent(g)
		for i := range count {
			p, id := r.split(x.keys[x.keysBefore(g)+i])
			coded = c.append(coded, p, id)
			sums = binary.BigEndian.AppendUint32(sums, x.sums[x.keysBefore(g)+i])
		}
		b = appendGroupKeys(b, stored, count, coded, sums)
	}
	return b
}

// readGroup reads a group as who copies everything does.
func readGroup(r *Reader, group int, dst []byte) ([]byte, error) {
	e, err := r.Extent(group)
	if err != nil {
		return nil, err
	}
	stored := make([]byte, e.Stored)
	if err := r.ReadStored(context.Background(), stored, e.Off, func(int) {}); err != nil {
		return nil, err
	}
	return r.DecodeGroup(group, e, stored, dst)
}
