package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

const generation = "00000123456789ab"

// lineage is a plain model of a database: its whole content after every
// transaction.
type lineage struct {
	pageSize int
	txns     []wal.TxnInfo
	images   [][]byte                // after txns[i]
	written  []map[wal.Pgno]struct{} // by txns[i]
}

// begin starts a lineage with a database of size random pages.
func begin(r *rand.Rand, pageSize, size int) *lineage {
	l := &lineage{pageSize: pageSize}
	image := make([]byte, size*pageSize)
	fill(r, image)
	l.add(r, image, nil)
	return l
}

// fill fills b, whose length is a multiple of eight, with what compresses to
// about half.
func fill(r *rand.Rand, b []byte) {
	for i := 0; i < len(b); i += 8 {
		binary.BigEndian.PutUint64(b[i:], r.Uint64()&0x0f0f0f0f0f0f0f0f)
	}
}

// add adds a transaction after which the database is image.
func (l *lineage) add(r *rand.Rand, image []byte, written map[wal.Pgno]struct{}) {
	t := wal.TxnInfo{ID: 1, Time: 1_700_000_000_000_000, Size: wal.Pgno(len(image) / l.pageSize), Pages: wal.Pgno(len(written))}
	if n := len(l.txns); n > 0 {
		t.ID, t.Time = l.txns[n-1].ID+1, l.txns[n-1].Time+1+wal.Time(r.Int64N(1e6))
	}
	for p := range t.Size {
		t.Checksum ^= wal.PageSum(p+1, image[int(p)*l.pageSize:][:l.pageSize])
	}
	l.txns, l.images, l.written = append(l.txns, t), append(l.images, image), append(l.written, written)
}

// commit resizes the database to size pages, new ones being zeros, and writes
// up to n pages of it.
func (l *lineage) commit(r *rand.Rand, size, n int) {
	image := make([]byte, size*l.pageSize)
	copy(image, l.images[len(l.images)-1])
	written := map[wal.Pgno]struct{}{}
	for range min(n, size) {
		p := r.IntN(size)
		written[wal.Pgno(p+1)] = struct{}{}
		fill(r, image[p*l.pageSize:][:l.pageSize])
	}
	l.add(r, image, written)
}

// fork returns a lineage that has the first n transactions in common with l.
func (l *lineage) fork(n int) *lineage {
	return &lineage{l.pageSize, slices.Clone(l.txns[:n]), slices.Clone(l.images[:n]), slices.Clone(l.written[:n])}
}

func (l *lineage) mark(i int) wal.Mark { return wal.Mark{Txn: l.txns[i], PageSize: l.pageSize} }

// object is a pack as it is stored.
type object struct {
	place pack.Place
	bytes []byte
}

func (o object) open(s pack.Sealer) (*pack.Reader, error) {
	return pack.Open(bytes.NewReader(o.bytes), int64(len(o.bytes)), o.place, pack.ReaderOptions{Sealer: s})
}

func (o object) mustOpen(t testing.TB) *pack.Reader {
	t.Helper()
	r, err := o.open(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// segment returns transactions i up to j as an open pack.
func (l *lineage) segment(t testing.TB, i, j int) *pack.Reader {
	t.Helper()
	return l.storeSegment(t, i, j).mustOpen(t)
}

// snapshot returns the database after txns[i] as an open pack.
func (l *lineage) snapshot(t testing.TB, i int) *pack.Reader {
	t.Helper()
	return l.storeSnapshot(t, i).mustOpen(t)
}

// storeSegment returns transactions i up to j as a pack.
func (l *lineage) storeSegment(t testing.TB, i, j int) object {
	t.Helper()
	place := pack.Place{Generation: generation, Name: "wal/" + l.txns[i].ID.String() + "-" + l.txns[j-1].ID.String()}
	var b bytes.Buffer
	w := pack.NewWriter(&b, pack.Segment, l.pageSize, place, pack.WriterOptions{})
	versions := map[wal.Pgno][]int{}
	for k := i; k < j; k++ {
		for p := range l.written[k] {
			versions[p] = append(versions[p], k)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(versions)) {
		for _, k := range versions[p] {
			if err := w.Add(p, l.txns[k].ID, l.images[k][int(p-1)*l.pageSize:][:l.pageSize]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := w.Finish(l.txns[i:j], l.mark(j-1)); err != nil {
		t.Fatal(err)
	}
	return object{place, b.Bytes()}
}

// storeSnapshot returns the database after txns[i] as a pack.
func (l *lineage) storeSnapshot(t testing.TB, i int) object {
	t.Helper()
	place := pack.Place{Generation: generation, Name: "snapshot/" + l.txns[i].ID.String()}
	var b bytes.Buffer
	// Groups of an odd number of pages, so that nothing is aligned by chance.
	w := pack.NewWriter(&b, pack.Snapshot, l.pageSize, place, pack.WriterOptions{GroupSize: 7 * l.pageSize})
	for p := range l.txns[i].Size {
		if err := w.Add(p+1, l.txns[i].ID, l.images[i][int(p)*l.pageSize:][:l.pageSize]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish(l.txns[i:i+1], l.mark(i)); err != nil {
		t.Fatal(err)
	}
	return object{place, b.Bytes()}
}

// view returns the database after txns[i] from packs.
func (l *lineage) view(t testing.TB, i int, packs ...*pack.Reader) *View {
	t.Helper()
	v, err := NewView(l.txns[i], l.pageSize, packs...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// check reads v in every way and compares it with image.
func check(t fataler, r *rand.Rand, v *View, image []byte) {
	t.Helper()
	if v.Size() != int64(len(image)) {
		t.Fatalf("the view has %d bytes, want %d", v.Size(), len(image))
	}
	whole := make([]byte, len(image)+1)
	if n, err := v.ReadAt(whole, 0); n != len(image) || err != io.EOF || !bytes.Equal(whole[:n], image) {
		t.Fatalf("transaction %d: ReadAt of everything: %d bytes, %v; or they differ", v.Txn().ID, n, err)
	}
	for range 5 {
		off := r.IntN(len(image) + 10)
		b := make([]byte, r.IntN(3*v.PageSize()))
		want := image[min(off, len(image)):min(off+len(b), len(image))]
		n, err := v.ReadAt(b, int64(off))
		if n != len(want) || !bytes.Equal(b[:n], want) || (err == io.EOF) != (n < len(b)) || err != nil && err != io.EOF {
			t.Fatalf("ReadAt of %d bytes at %d of %d: %d, %v; or they differ", len(b), off, len(image), n, err)
		}
	}
	var out bytes.Buffer
	if n, err := v.WriteTo(&out); err != nil || n != int64(len(image)) || !bytes.Equal(out.Bytes(), image) {
		t.Fatalf("WriteTo: %d, %v; or they differ", n, err)
	}
	out.Reset()
	told := int64(0)
	o := CopyOptions{Concurrency: r.IntN(4), Progress: func(n int64) { told += n }}
	if err := v.CopyTo(context.Background(), &out, o); err != nil || !bytes.Equal(out.Bytes(), image) || told != int64(len(image)) {
		t.Fatalf("CopyTo: %v; progress %d; or they differ", err, told)
	}
}
