package generations

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// rawLog returns transactions that lie in a file, as they lie in a log.
func rawLog(t testing.TB, first wal.TXID, n int) []*wal.Txn {
	const pageSize = 1024
	random := rand.New(rand.NewPCG(uint64(first), uint64(n)))
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	off := int64(wal.HeaderSize)
	var txns []*wal.Txn
	for i := range n {
		txn := &wal.Txn{TxnInfo: wal.TxnInfo{ID: first + wal.TXID(i), Time: wal.Time(1000 + int(first) + i), Size: 50, Checksum: wal.Checksum(random.Uint64())}, PageSize: pageSize, Source: f}
		for p := wal.Pgno(1 + random.IntN(10)); p <= 50; p += wal.Pgno(1 + random.IntN(20)) {
			page := make([]byte, pageSize)
			for j := range page {
				page[j] = byte(random.IntN(4))
			}
			off += wal.FrameHeaderSize
			if _, err := f.WriteAt(page, off); err != nil {
				t.Fatal(err)
			}
			txn.Frames = append(txn.Frames, wal.Frame{Pgno: p, Off: off, Sum: wal.PageSum(p, page)})
			off += pageSize
		}
		txn.Pages = wal.Pgno(len(txn.Frames))
		txn.End = wal.Position{Salt1: 7, Salt2: 8, PageSize: pageSize, Frames: uint32(i + 1), Sum: [2]uint32{random.Uint32(), 9}, BigEndian: true}
		txns = append(txns, txn)
	}
	return txns
}

func rawSpool(t testing.TB, dir string) *Spool {
	s, err := OpenSpool(dir, "file:///store")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// raw saves txns in s, as a raw piece.
func rawOf(t testing.TB, s *Spool, txns []*wal.Txn) piece {
	p, err := s.writePiece("acme", 1, txns)
	if err != nil {
		t.Fatal(err)
	}
	if s.raws.find("acme", p.Key()) == nil {
		t.Fatal("it is no raw piece")
	}
	return p
}

// wantPiece wants the object o of the spool to be a pack of txns.
func wantPiece(t *testing.T, s *Spool, o Object, txns []*wal.Txn) {
	t.Helper()
	r, done, err := s.openPack(o)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	wantTxns(t, r, txns)
}

func wantTxns(t *testing.T, r *pack.Reader, txns []*wal.Txn) {
	t.Helper()
	infos, err := r.Txns()
	if err != nil || len(infos) != len(txns) {
		t.Fatalf("%d transactions, %v; want %d", len(infos), err, len(txns))
	}
	versions := make(map[wal.TXID]map[wal.Pgno]wal.Checksum)
	for v, err := range r.All(0) {
		if err != nil {
			t.Fatal(err)
		}
		if versions[v.TXID] == nil {
			versions[v.TXID] = make(map[wal.Pgno]wal.Checksum)
		}
		versions[v.TXID][v.Pgno] = wal.PageSum(v.Pgno, v.Data)
	}
	for i, txn := range txns {
		if infos[i] != txn.TxnInfo || len(versions[txn.ID]) != len(txn.Frames) {
			t.Fatalf("transaction %+v with %d pages, want %+v with %d", infos[i], len(versions[txn.ID]), txn.TxnInfo, len(txn.Frames))
		}
		for _, f := range txn.Frames {
			if versions[txn.ID][f.Pgno] != f.Sum {
				t.Fatalf("page %d of transaction %d is another one", f.Pgno, txn.ID)
			}
		}
	}
	if mark := r.Info().Mark; mark.Log != txns[len(txns)-1].End {
		t.Fatalf("the log's position is %+v, want %+v", mark.Log, txns[len(txns)-1].End)
	}
}

// A raw piece becomes a pack when it is read, a segment when it is shipped, and
// a pack when the process that wrote it was killed.
func TestRawPieces(t *testing.T) {
	dir := t.TempDir()
	s := rawSpool(t, dir)
	one, two, three := rawLog(t, 1, 20), rawLog(t, 21, 30), rawLog(t, 51, 5)
	p, q := rawOf(t, s, one), rawOf(t, s, two)
	o := Object{Client: "acme", Generation: 1, Kind: SegmentObject, First: 1}
	seg, err := s.merge(o, []piece{p, q})
	if err != nil {
		t.Fatal(err)
	}
	r, err := pack.Open(seg.body, seg.body.Size(), o.Place(), pack.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantTxns(t, r, append(one[:len(one):len(one)], two...))
	if err := seg.done(); err != nil {
		t.Fatal(err)
	}
	wantPiece(t, s, p.Object, one)
	if seg, err = s.merge(o, []piece{p, q}); err != nil { // one of them is a pack by now
		t.Fatal(err)
	}
	if err := errors.Join(seg.done(), s.remove(p.Key())); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Open(p.Key()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the piece was removed, and opening it gives %v", err)
	}
	last := rawOf(t, s, three) // over the file of the first
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = rawSpool(t, dir)
	defer s.Close()
	wantPiece(t, s, q.Object, two)
	wantPiece(t, s, last.Object, three)
	if left, err := os.ReadDir(s.rawDir()); err != nil || len(left) > 0 {
		t.Fatalf("%v is left of raw pieces, %v", left, err)
	}
}

// A piece that was removed is gone for good, though its file is kept.
func TestRemovedRawPiece(t *testing.T) {
	dir := t.TempDir()
	s := rawSpool(t, dir)
	p := rawOf(t, s, rawLog(t, 1, 20))
	path := s.raws.find("acme", p.Key()).path
	if err := s.remove(p.Key()); err != nil {
		t.Fatal(err)
	}
	_, space, err := s.disk()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil && space >= plentyOfSpace {
		t.Fatalf("the file is not kept to be written over: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = rawSpool(t, dir)
	defer s.Close()
	if objects, err := s.List("acme"); err != nil || len(objects) > 0 {
		t.Fatalf("the spool has %v, %v", objects, err)
	}
}

// Who reads a raw piece reads it to its end, though it becomes a pack meanwhile, and
// files are written over.
func TestRawPieceIsReadToItsEnd(t *testing.T) {
	s := rawSpool(t, t.TempDir())
	defer s.Close()
	p := rawOf(t, s, rawLog(t, 1, 20))
	raw := s.raws.find("acme", p.Key())
	txns, f, err := raw.open()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.close(f)
	if err := s.settle("acme", p.Key()); err != nil {
		t.Fatal(err)
	}
	rawOf(t, s, rawLog(t, 21, 30))
	for _, txn := range txns {
		for _, frame := range txn.Frames {
			page := make([]byte, txn.PageSize)
			if _, err := txn.Source.ReadAt(page, frame.Off); err != nil || wal.PageSum(frame.Pgno, page) != frame.Sum {
				t.Fatalf("page %d of transaction %d is another one by now (%v)", frame.Pgno, txn.ID, err)
			}
		}
	}
}

// A gate takes a file while another one is given up: the lock is not held for that.
func TestRawPool(t *testing.T) {
	var p rawPool
	for range maxFreeRaw {
		if !p.reserve() {
			t.Fatal("there is room for another file")
		}
	}
	if p.reserve() {
		t.Fatal("more files are kept than that")
	}
	if path, number := p.take(); path != "" || number != 1 {
		t.Fatalf("took %q, %d, and none is empty yet", path, number)
	}
	p.give("a")
	p.give("")
	if path, _ := p.take(); path != "a" {
		t.Fatalf("took %q", path)
	}
	for i, want := range []bool{true, true, false} {
		if p.reserve() != want {
			t.Fatalf("place %d: want %v", i, want)
		}
	}
}

// What a power failure has damaged of a raw piece is no piece.
func TestDamagedRawPiece(t *testing.T) {
	for name, damage := range map[string]func(*os.File, *rawPiece) error{
		"description": func(f *os.File, p *rawPiece) error { _, err := f.WriteAt([]byte{99}, p.base-5); return err },
		"page":        func(f *os.File, p *rawPiece) error { _, err := f.WriteAt([]byte{99}, p.base+100); return err },
		"end":         func(f *os.File, p *rawPiece) error { return f.Truncate(p.size - 1) },
		"all":         func(f *os.File, p *rawPiece) error { return f.Truncate(3) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := rawSpool(t, dir)
			p := rawOf(t, s, rawLog(t, 1, 9))
			raw := s.raws.find("acme", p.Key())
			f, err := os.OpenFile(raw.path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(damage(f, raw), f.Close(), s.Close()); err != nil {
				t.Fatal(err)
			}
			s = rawSpool(t, dir)
			defer s.Close()
			if objects, err := s.List("acme"); err != nil || len(objects) > 0 {
				t.Fatalf("the spool has %v, %v", objects, err)
			}
		})
	}
}

// FuzzRawPiece: what is read as a description is written as the same bytes again.
func FuzzRawPiece(f *testing.F) {
	p := &rawPiece{Object: Object{Client: "eu/acme", Generation: 9, Kind: PieceObject, First: 3, Last: 5}, txns: moved(rawLog(f, 3, 3), 56)}
	f.Add(appendRawHead(nil, p), uint32(1<<20))
	f.Add([]byte(rawMagic), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, copied uint32) {
		size := int64(len(b)) + int64(copied)
		p, err := readRawHead(bytes.NewReader(b), size)
		if err != nil {
			if !errors.Is(err, errNotRaw) {
				t.Fatal(err)
			}
			return
		}
		if head := appendRawHead(nil, p); !bytes.HasPrefix(b, head) || p.base != int64(len(head)) {
			t.Fatalf("%x is written as %x", b, head)
		}
		for _, txn := range p.txns {
			for _, f := range txn.Frames {
				if f.Off+int64(txn.PageSize) > size-p.base {
					t.Fatalf("page %d lies at %d of %d", f.Pgno, f.Off, size-p.base)
				}
			}
		}
	})
}
