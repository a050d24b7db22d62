package generations

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/walback/walback/wal"
)

// stateFile is a file of states, and what is to be read from it.
type stateFile struct {
	bytes   []byte
	records []stateRecord
	sums    []map[wal.Pgno]wal.Checksum // after each record
}

// randomStates makes up a file of states: of a generation, and from some
// transaction on of a fork.
func randomStates(t *testing.T, seed uint64) stateFile {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	var f stateFile
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	model := wal.NewPageSums(512)
	forks := 2 + rnd.IntN(6)
	for i := range 1 + rnd.IntN(8) {
		size := wal.Pgno(1 + rnd.IntN(12))
		model.Resize(size, 512)
		changed := map[wal.Pgno]wal.Checksum{}
		for p := range size {
			if i == 0 || rnd.IntN(3) == 0 {
				changed[p+1] = wal.Checksum(rnd.Uint64())
				model.Set(p+1, changed[p+1])
			}
		}
		r := stateRecord{
			generation: 7, before: 7, pageSize: 512, full: i == 0, sums: uint32(len(changed)), off: int64(b.Len()),
			txn: wal.TxnInfo{ID: wal.TXID(i + 5), Time: wal.Time(1000 * i), Size: size, Pages: wal.Pgno(len(changed)), Checksum: model.Total()},
		}
		if i >= forks {
			r.generation = 9
		}
		if i > forks {
			r.before = 9
		}
		w := newStateWriter(out, r)
		for p := range size {
			if sum, ok := changed[p+1]; ok {
				w.add(p+1, sum)
			}
		}
		if err := w.finish(); err != nil {
			t.Fatal(err)
		}
		f.records = append(f.records, r)
		f.sums = append(f.sums, sumsOf(model))
	}
	f.bytes = b.Bytes()
	return f
}

// sumsOf returns the checksums of all pages.
func sumsOf(s *wal.PageSums) map[wal.Pgno]wal.Checksum {
	all := make(map[wal.Pgno]wal.Checksum)
	for p := range s.Size() {
		all[p+1] = s.At(p + 1)
	}
	return all
}

// sealStates gives what may be records in b the checksums that they need.
func sealStates(b []byte) []byte {
	b = bytes.Clone(b)
	for rest := b; len(rest) >= stateHeadSize; {
		r, ok := parseStateHead(rest)
		if n := r.length(); !ok || n > int64(len(rest)) {
			return b
		}
		record := rest[:r.length()]
		at := len(record) - stateTailSize
		binary.BigEndian.PutUint32(record[at:], crc32.ChecksumIEEE(record[:at]))
		rest = rest[len(record):]
	}
	return b
}

// FuzzStates reads the file of states: arbitrary bytes, as they are and with
// valid checksums, and a file that was written and damaged. What is read of that
// is what was written, as far as it is read.
func FuzzStates(f *testing.F) {
	for seed := range uint64(3) {
		f.Add(randomStates(&testing.T{}, seed).bytes, seed, uint16(100*seed), byte(1), uint16(300))
	}
	hollow := stateRecord{generation: 7, txn: wal.TxnInfo{ID: 1, Size: 9}, pageSize: 512, full: true} // without its checksums
	f.Add(append(hollow.appendHead(nil), 0, 0, 0, 0), uint64(0), uint16(0), byte(0), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, at uint16, flip byte, cut uint16) {
		exerciseStates(t, b)
		exerciseStates(t, sealStates(b))
		want := randomStates(t, seed)
		records := exerciseStates(t, want.bytes)
		if len(records) != len(want.records) {
			t.Fatalf("%d records were written, %d are read", len(want.records), len(records))
		}
		damaged := bytes.Clone(want.bytes)
		damaged[int(at)%len(damaged)] ^= flip
		damaged = damaged[:min(int(cut), len(damaged))]
		var sums *wal.PageSums
		in := stateReader{file: bytes.NewReader(damaged), in: bufio.NewReader(nil)}
		for i, r := range exerciseStates(t, damaged) {
			if r != want.records[i] {
				t.Fatalf("record %d is read as %+v, written was %+v", i, r, want.records[i])
			}
			var err error
			if sums, err = r.apply(&in, sums); err != nil {
				t.Fatal(err)
			}
			for p, sum := range want.sums[i] {
				if sums.At(p) != sum {
					t.Fatalf("record %d: page %d has checksum %s, written was %s", i, p, sums.At(p), sum)
				}
			}
			if sums.Total() != r.txn.Checksum || sums.Size() != r.txn.Size {
				t.Fatalf("record %d: %d pages, checksum %s; want %+v", i, sums.Size(), sums.Total(), r.txn)
			}
		}
	})
}

// exerciseStates reads b in every way, and returns its records.
func exerciseStates(t *testing.T, b []byte) []stateRecord {
	f := bytes.NewReader(b)
	all, end, err := readStates(f, int64(len(b)))
	if err != nil {
		t.Fatalf("reading memory gives %v", err)
	}
	off := int64(0)
	for _, r := range all {
		head := b[r.off:][:stateHeadSize]
		if r.off != off || !bytes.Equal(r.appendHead(nil), head) {
			t.Fatalf("%+v at %d is read from %x", r, off, head)
		}
		off += r.length()
		if r.txn.Size > 1<<16 {
			continue // a database of zeros may be any size
		}
		sums, err := r.apply(&stateReader{file: f, in: bufio.NewReader(nil)}, nil)
		if err == nil && (sums.Size() != r.txn.Size || r.full && uint32(sums.Size()) != r.sums) {
			t.Fatalf("%d pages by %+v", sums.Size(), r)
		}
	}
	if off != end || end > int64(len(b)) {
		t.Fatalf("records up to %d of %d bytes, which end at %d", off, len(b), end)
	}
	for _, r := range all {
		g := &lineage{progress: progress{ID: r.generation, Parent: &Parent{Generation: r.before, Txn: r.txn.ID}}}
		g.mark.Txn.ID = r.txn.ID
		found := link(all, g)
		for i, r := range found {
			if r.full != (i == 0) || i > 0 && r.front() != found[i-1].at() {
				t.Fatalf("record %d of a chain is %+v", i, r)
			}
		}
	}
	return all
}
