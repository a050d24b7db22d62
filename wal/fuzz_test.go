package wal

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"testing"
)

// readLog reads a log in the plainest way there is, as file format §4 has it. The
// Tracker must agree with it.
func readLog(log []byte) []Commit {
	h, err := ParseHeader(log)
	if err != nil {
		return nil
	}
	var commits []Commit
	pages, pos := map[Pgno]Frame{}, h.start()
	var before []byte
	stride := FrameHeaderSize + h.PageSize
	for off := HeaderSize; off+stride <= len(log); off += stride {
		b := log[off : off+stride]
		f, page := DecodeFrameHeader(b), b[FrameHeaderSize:]
		sum := chain(h.BigEndian, chain(h.BigEndian, pos.Sum, b[:8]), page)
		if f.Salt1 != h.Salt1 || f.Salt2 != h.Salt2 || f.Pgno == 0 || f.Sum != sum {
			break
		}
		repeats := f.IsCommit() && len(pages) == 0 && before != nil &&
			bytes.Equal(b[:8], before[:8]) && bytes.Equal(page, before[FrameHeaderSize:])
		before = b
		pos.Frames, pos.Sum = pos.Frames+1, sum
		pages[f.Pgno] = Frame{Pgno: f.Pgno, Off: int64(off + FrameHeaderSize), Sum: PageSum(f.Pgno, page)}
		if !f.IsCommit() {
			continue
		}
		c := Commit{Size: f.Size, PageSize: h.PageSize, End: pos}
		for _, p := range slices.Sorted(maps.Keys(pages)) {
			if p <= f.Size {
				c.Frames = append(c.Frames, pages[p])
			}
		}
		clear(pages)
		if !repeats {
			commits = append(commits, c)
		}
	}
	return commits
}

// smallLog returns a database and a real log short enough to be mutated a million
// times: transactions, padding, and a spill that was rolled back.
func smallLog(t tester, dir string) (file, log []byte) {
	t.Helper()
	d := newDatabase(t, dir, settings{pageSize: 512, dsn: "psow=0", connect: []string{"PRAGMA cache_size=2", "PRAGMA synchronous=FULL"}})
	defer d.close()
	file = d.file()
	d.exec("PRAGMA synchronous=OFF; INSERT INTO t(v) VALUES(randomblob(1200)); UPDATE t SET v='x'")
	d.exec("BEGIN; INSERT INTO t(v) VALUES(randomblob(2000)); ROLLBACK")
	return file, d.log()
}

// FuzzTracker looks at arbitrary logs. Since none would have a valid checksum,
// most are given one first. A look at a part of the log and then at all of it
// must find what one look finds.
func FuzzTracker(f *testing.F) {
	_, log := smallLog(f, f.TempDir())
	f.Add(log, false, uint(len(log)/2))
	f.Add(otherOrder(f, log), true, uint(len(log)/3))
	f.Fuzz(func(t *testing.T, log []byte, valid bool, cut uint) {
		if valid && len(log) >= HeaderSize {
			h := Header{
				PageSize:   MinPageSize << (log[11] % 8),
				Checkpoint: binary.BigEndian.Uint32(log[12:]),
				Salt1:      binary.BigEndian.Uint32(log[16:]),
				Salt2:      binary.BigEndian.Uint32(log[20:]),
				BigEndian:  log[3]&1 != 0,
			}
			log = seal(h, log)
		}
		want := readLog(log)
		tr := NewTracker(Position{})
		got := commits(t, tr, log[:cut%uint(len(log)+1)])
		got = append(got, commits(t, tr, log)...)
		sameCommits(t, got, want)
		if ok, err := tr.Check(bytes.NewReader(log)); !ok || err != nil {
			t.Fatalf("the log does not hold the position: %v, %v", ok, err)
		}
		for i := range want {
			sameCommits(t, commits(t, NewTracker(want[i].End), log), want[i+1:])
		}
	})
}

// FuzzParseHeader: what parses encodes to the same bytes again.
func FuzzParseHeader(f *testing.F) {
	_, log := smallLog(f, f.TempDir())
	f.Add(log[:HeaderSize])
	f.Add(otherOrder(f, log)[:HeaderSize+10])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err == nil && !bytes.Equal(h.Append(nil), b[:HeaderSize]) {
			t.Errorf("%x encodes to %x", b[:HeaderSize], h.Append(nil))
		}
		if err == nil && !ValidPageSize(h.PageSize) {
			t.Errorf("page size %d", h.PageSize)
		}
		if len(b) < FrameHeaderSize {
			return
		}
		if fh := DecodeFrameHeader(b); !bytes.Equal(fh.Append(nil), b[:FrameHeaderSize]) {
			t.Errorf("frame header %x encodes to %x", b[:FrameHeaderSize], fh.Append(nil))
		}
		if len(b) < HeaderSize { // a header with these fields and a checksum is one
			return
		}
		h = Header{
			PageSize:   MinPageSize << (b[11] % 8),
			Checkpoint: binary.BigEndian.Uint32(b[12:]),
			Salt1:      binary.BigEndian.Uint32(b[16:]),
			Salt2:      binary.BigEndian.Uint32(b[20:]),
			BigEndian:  b[3]&1 != 0,
		}
		h.Sum = chain(h.BigEndian, [2]uint32{}, h.Append(nil)[:HeaderSize-8])
		if got, err := ParseHeader(h.Append(nil)); err != nil || got != h {
			t.Errorf("%+v comes back as %+v, %v", h, got, err)
		}
	})
}

func FuzzParseDatabaseHeader(f *testing.F) {
	file, _ := smallLog(f, f.TempDir())
	f.Add(file[:DatabaseHeaderSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseDatabaseHeader(b)
		if err != nil {
			if h != (DatabaseHeader{}) {
				t.Errorf("%+v beside an error", h)
			}
			return
		}
		if !ValidPageSize(h.PageSize) || h.PageSize-h.Reserved < minUsableSize || !bytes.HasPrefix(b, []byte("SQLite format 3\x00")) {
			t.Errorf("%x parses as %+v", b[:DatabaseHeaderSize], h)
		}
	})
}

// FuzzWriteHint writes a log in pieces of any size: a WriteHint, whether it knows
// the page size or learns it, must speak up by the time the last byte of a
// commit frame is there, and never of a log without one.
func FuzzWriteHint(f *testing.F) {
	_, log := smallLog(f, f.TempDir())
	f.Add(log, []byte{24, 255}, false)
	f.Add(log, []byte{32, 1, 7, 200, 13}, true)
	f.Fuzz(func(t *testing.T, log []byte, pieces []byte, known bool) {
		h, err := ParseHeader(log)
		if err != nil || len(pieces) == 0 || pieces[0] < 12 {
			return // the header comes in one piece, or at least the page size does
		}
		var hint WriteHint
		if known {
			hint.SetPageSize(h.PageSize)
		}
		stride := FrameHeaderSize + h.PageSize
		for off, i := 0, 0; off < len(log); i++ {
			n := min(1+3*int(pieces[i%len(pieces)]), len(log)-off)
			said := hint.Wrote(int64(off), log[off:off+n])
			off += n
			if off <= HeaderSize || i == 0 {
				continue
			}
			done := false // a commit frame ended in this piece
			for k := max(0, (off-n-HeaderSize)/stride); HeaderSize+(k+1)*stride <= off; k++ {
				end := HeaderSize + (k+1)*stride
				fh := DecodeFrameHeader(log[HeaderSize+k*stride:])
				sealed := fh.Salt1 != 0 || fh.Salt2 != 0 || fh.Sum != [2]uint32{}
				done = done || end > off-n && fh.IsCommit() && sealed
			}
			if said != done {
				t.Fatalf("after %d bytes, %d written at once: said %v, want %v", off, n, said, done)
			}
		}
	})
}
