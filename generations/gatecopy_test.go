package generations

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/walback/walback/wal"
)

// BenchmarkGate saves 4 MiB of a log, which is what a gate has to do at most by
// default: as a pack, as a copy in a new file, and as one that is written over what
// is there. TMPDIR says on which filesystem.
func BenchmarkGate(b *testing.B) {
	const pageSize, pages = 4096, 1000
	log, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	txn := &wal.Txn{TxnInfo: wal.TxnInfo{ID: 1, Time: 1, Size: pages, Pages: pages}, PageSize: pageSize, Source: log}
	page := make([]byte, pageSize)
	for i := range pages {
		page[0], page[1] = byte(i), byte(i>>8)
		f := wal.Frame{Pgno: wal.Pgno(i + 1), Off: int64(wal.HeaderSize + i*(wal.FrameHeaderSize+pageSize) + wal.FrameHeaderSize)}
		f.Sum = wal.PageSum(f.Pgno, page)
		if _, err := log.WriteAt(page, f.Off); err != nil {
			b.Fatal(err)
		}
		txn.Frames = append(txn.Frames, f)
	}
	txns := []*wal.Txn{txn}
	s := rawSpool(b, b.TempDir())
	defer s.Close()
	o := Object{Client: "acme", Generation: 1, Kind: PieceObject, First: 1, Last: 1}
	b.Run("pack", func(b *testing.B) {
		b.SetBytes(pages * pageSize)
		for b.Loop() {
			if _, err := s.writePack(o, txns); err != nil {
				b.Fatal(err)
			}
		}
	})
	raw := func(b *testing.B, again bool) {
		b.SetBytes(pages * pageSize)
		for b.Loop() {
			if _, ok, err := s.writeRawPiece(o, txns); err != nil || !ok {
				b.Fatal(ok, err)
			}
			b.StopTimer()
			if err := s.remove(o.Key()); err != nil {
				b.Fatal(err)
			}
			if path, _ := s.rawFiles.take(); again {
				s.rawFiles.reserve()
				s.rawFiles.give(path)
			} else if err := os.Remove(path); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
	b.Run("copy", func(b *testing.B) { raw(b, false) })
	b.Run("written over", func(b *testing.B) { raw(b, true) })
}
