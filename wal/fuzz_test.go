package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
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

// FuzzLog looks at arbitrary logs, and is told of their being written. Since none
// would have a valid checksum, most are given one first.
func FuzzLog(f *testing.F) {
	f.Fuzz(func(t *testing.T, log []byte, valid bool, cut uint, pieces []byte, known bool) {
		if valid && len(log) >= HeaderSize {
			log = seal(headerOf(log), lengthen(log, cut))
			makeStale(log, cut)
		}
		want := readLog(log)
		fuzzLooks(t, log, want, cut)
		fuzzPosition(t, log, want, cut)
		fuzzLimit(t, log, want, cut)
		fuzzHint(t, log, pieces, known)
		fuzzSpill(t, log, want, pieces)
	})
}

// lengthen repeats the frames of a short log until it is more than is read at
// once.
func lengthen(log []byte, cut uint) []byte {
	frames := log[HeaderSize:]
	if n := len(frames); cut%16 == 7 && n > 0 && n <= firstRead {
		return append(bytes.Clone(log), bytes.Repeat(frames, 2*firstRead/n)...)
	}
	return log
}

// makeStale gives one frame of a log the salts of another epoch, which its
// checksum does not tell.
func makeStale(log []byte, which uint) {
	h, err := ParseHeader(log)
	if err != nil || which%4 > 0 {
		return
	}
	stride := uint(h.start().stride())
	if n := (uint(len(log)) - HeaderSize) / stride; n > 0 {
		log[HeaderSize+which/4%n*stride+8+which%8] ^= 1
	}
}

// fuzzLooks: a look at a part of the log and then at all of it finds what one
// look finds, and what is behind a commit is found from there.
func fuzzLooks(t *testing.T, log []byte, want []Commit, cut uint) {
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
}

// fuzzLimit looks at a log as far as a wal-index says.
func fuzzLimit(t *testing.T, log []byte, want []Commit, at uint) {
	h, err := ParseHeader(log)
	if err != nil {
		return
	}
	index := IndexHeader{Frames: uint32(1 + at/3%64), Salt1: h.Salt1 + uint32(at%3), Salt2: h.Salt2}
	if len(want) > 0 && at/64%2 == 0 {
		index.Frames = want[at%uint(len(want))].End.Frames
	}
	switch at % 3 {
	case 0: // of this epoch
		want = slices.DeleteFunc(slices.Clone(want), func(c Commit) bool { return c.End.Frames > index.Frames })
	case 2: // of one that the log is too old for
		want = nil
	}
	var got []Commit
	if err := NewTracker(Position{}).LookTo(bytes.NewReader(log), index, func(c Commit) error { got = append(got, c); return nil }); err != nil {
		t.Fatal(err)
	}
	sameCommits(t, got, want)
}

// fuzzPosition looks at a log from a position that may not be in it.
func fuzzPosition(t *testing.T, log []byte, want []Commit, at uint) {
	h, err := ParseHeader(log)
	if err != nil {
		return
	}
	pos := h.start()
	pos.Frames = uint32(at)
	if n := uint(len(log)/pos.stride() + 1); at/8%2 == 0 {
		pos.Frames = uint32(at % n)
	}
	pos.Salt1 -= uint32(at % 3) // this epoch, the one before, an older one
	if end := int(pos.Offset()); end > HeaderSize && end <= len(log) && at/4%2 == 0 {
		pos.Sum = DecodeFrameHeader(log[end-pos.stride():]).Sum
	}
	var got []Commit
	err = NewTracker(pos).Look(bytes.NewReader(log), func(c Commit) error { got = append(got, c); return nil })
	if err != nil && (!errors.Is(err, ErrMissed) || len(got) > 0) {
		t.Fatalf("%d commits and %v", len(got), err)
	}
	if end := int(pos.Offset()); pos.in(h) && pos.Frames > 0 && end <= len(log) {
		front := DecodeFrameHeader(log[end-pos.stride():])
		if same := front.Sum == pos.Sum && front.Salt1 == pos.Salt1 && front.Salt2 == pos.Salt2; same != (err == nil) {
			t.Fatalf("from %+v, behind the frame %+v: %v", pos, front, err)
		}
	}
	if held, err := NewTracker(pos).Check(bytes.NewReader(log)); err != nil {
		t.Fatal(err)
	} else if held {
		want = slices.DeleteFunc(slices.Clone(want), func(c Commit) bool { return c.End.Frames <= pos.Frames })
		if len(want) > 0 && (len(got) == 0 || got[len(got)-1].End != want[len(want)-1].End) {
			t.Fatalf("from %+v, which the log has: %d commits, want %d", pos, len(got), len(want))
		}
	}
}

// FuzzHeaders parses arbitrary bytes as every header there is. What parses
// encodes to the same bytes again, or at least has fields SQLite would accept.
func FuzzHeaders(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzLogHeader(t, b)
		fuzzJournalHeader(t, b)
		fuzzDatabaseHeader(t, b)
		fuzzIndexHeader(t, b)
		if len(b) < FrameHeaderSize {
			return
		}
		if fh := DecodeFrameHeader(b); !bytes.Equal(fh.Append(nil), b[:FrameHeaderSize]) {
			t.Errorf("frame header %x encodes to %x", b[:FrameHeaderSize], fh.Append(nil))
		}
	})
}

func fuzzLogHeader(t *testing.T, b []byte) {
	h, err := ParseHeader(b)
	if (err == ErrNoLog) != (len(b) < HeaderSize) {
		t.Errorf("%d bytes: %v", len(b), err)
	}
	if err == nil && !bytes.Equal(h.Append(nil), b[:HeaderSize]) {
		t.Errorf("log header %x encodes to %x", b[:HeaderSize], h.Append(nil))
	}
	if err == nil && !ValidPageSize(h.PageSize) {
		t.Errorf("page size %d", h.PageSize)
	}
	if len(b) < HeaderSize {
		return
	}
	h = headerOf(b) // with a checksum it is one
	h.Sum = chain(h.BigEndian, [2]uint32{}, h.Append(nil)[:HeaderSize-8])
	if got, err := ParseHeader(h.Append(nil)); err != nil || got != h {
		t.Errorf("%+v comes back as %+v, %v", h, got, err)
	}
}

// headerOf returns a header with the fields that b has, the page size one of
// SQLite's, and no checksum.
func headerOf(b []byte) Header {
	return Header{
		PageSize:   MinPageSize << (b[11] % 8),
		Checkpoint: binary.BigEndian.Uint32(b[12:]),
		Salt1:      binary.BigEndian.Uint32(b[16:]),
		Salt2:      binary.BigEndian.Uint32(b[20:]),
		BigEndian:  b[3]&1 != 0,
	}
}

// fuzzIndexHeader parses b as it is, and with what it lacks to be a header.
func fuzzIndexHeader(t *testing.T, b []byte) {
	if h, ok := ParseIndexHeader(b); !ok && h != (IndexHeader{}) {
		t.Errorf("%+v, which is none", h)
	}
	if len(b) < indexCopy {
		return
	}
	native := binary.NativeEndian
	b = bytes.Clone(b[:indexCopy])
	native.PutUint32(b, indexVersion)
	b[12] = 1
	sum := chain(native.Uint16([]byte{0, 1}) == 1, [2]uint32{}, b[:indexCopy-8])
	native.PutUint32(b[indexCopy-8:], sum[0])
	native.PutUint32(b[indexCopy-4:], sum[1])
	h, ok := ParseIndexHeader(append(b, b...))
	if !ok || h.Frames != native.Uint32(b[16:]) || h.Salt1 != binary.BigEndian.Uint32(b[32:]) {
		t.Errorf("%x is the header %+v, %v", b, h, ok)
	}
}

func fuzzJournalHeader(t *testing.T, b []byte) {
	h, err := ParseJournalHeader(b)
	if err != nil {
		if h != (JournalHeader{}) {
			t.Errorf("%+v beside an error", h)
		}
		return
	}
	if !bytes.Equal(h.Append(nil), b[:JournalHeaderSize]) {
		t.Errorf("journal header %x encodes to %x", b[:JournalHeaderSize], h.Append(nil))
	}
	if h.PageSize != 0 && !ValidPageSize(h.PageSize) || h.SectorSize < minSectorSize {
		t.Errorf("%x parses as %+v", b[:JournalHeaderSize], h)
	}
}

func fuzzDatabaseHeader(t *testing.T, b []byte) {
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
}

// fuzzHint writes a log in pieces of any size: a WriteHint, whether it knows the
// page size or learns it, must speak up by the time the last byte of a commit
// frame is there, and never of a log without one.
func fuzzHint(t *testing.T, log []byte, pieces []byte, known bool) {
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
}

// fuzzSpill writes a transaction as SQLite does when it has overwritten frames of
// its own: without salts and checksums, which come when all is written, the
// commit frame's last. That is when a WriteHint must speak up.
func fuzzSpill(t *testing.T, log []byte, want []Commit, pieces []byte) {
	if len(want) == 0 || len(pieces) == 0 {
		return
	}
	stride := FrameHeaderSize + want[0].PageSize
	which := int(pieces[0]) % len(want)
	first, end := HeaderSize, int(want[which].End.Offset())
	for at := first; at < end-stride; at += stride {
		if DecodeFrameHeader(log[at:]).IsCommit() { // of the one before, or its padding
			first = at + stride
		}
	}
	log = bytes.Clone(log[:end])
	var hint WriteHint
	hint.Wrote(0, log[:HeaderSize])
	hint.Wrote(HeaderSize, log[HeaderSize:first])
	headers := make(map[int][]byte)
	for at := first; at < end; at += stride {
		headers[at] = bytes.Clone(log[at:][:FrameHeaderSize])
		clear(log[at+8:][:FrameHeaderSize-8])
	}
	for off, i := first, 0; off < end; i++ {
		n := min(1+3*int(pieces[i%len(pieces)]), end-off)
		hint.Wrote(int64(off), log[off:off+n])
		off += n
	}
	said := false
	for at := first; at < end; at += stride {
		said = hint.Wrote(int64(at), headers[at])
	}
	if !said {
		t.Fatalf("commit %d, up to byte %d, is sealed, and nothing is said", which, end)
	}
}
