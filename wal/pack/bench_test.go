package pack

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/walback/walback/wal"
)

// benchSnapshot is an image of 64 MiB that compresses to about a quarter.
func benchSnapshot(b *testing.B, o WriterOptions) []byte {
	const pages = 64 << 20 / 4096
	rnd := rand.New(rand.NewPCG(1, 1))
	some := make([][]byte, 64)
	for i := range some {
		some[i] = randomPage(rnd, 4096)
	}
	var out bytes.Buffer
	out.Grow(70 << 20)
	txn := wal.TxnInfo{ID: 1, Size: pages}
	b.SetBytes(pages * 4096)
	b.ResetTimer()
	for range b.N {
		out.Reset()
		w := NewWriter(&out, Snapshot, 4096, testPlace, o)
		for p := range pages {
			if err := w.Add(wal.Pgno(p+1), 1, some[rnd.IntN(len(some))]); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := w.Finish([]wal.TxnInfo{txn}, wal.Mark{Txn: txn, PageSize: 4096}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	return out.Bytes()
}

func BenchmarkWrite(b *testing.B) {
	for name, o := range map[string]WriterOptions{"zstd": {}, "zstd/2": {Concurrency: 2}, "raw": {Raw: true}} {
		b.Run(name, func(b *testing.B) { benchSnapshot(b, o) })
	}
}

// BenchmarkWriteCommit writes a segment of a commit of four pages.
func BenchmarkWriteCommit(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 1))
	page := randomPage(rnd, 4096)
	txn := wal.TxnInfo{ID: 1, Time: 1, Size: 1000, Pages: 4}
	for name, o := range map[string]WriterOptions{"zstd": {}, "raw": {Raw: true}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				w := NewWriter(io.Discard, Segment, 4096, testPlace, o)
				for p := range 4 {
					if err := w.Add(wal.Pgno(p*50+1), 1, page); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := w.Finish([]wal.TxnInfo{txn}, wal.Mark{Txn: txn, PageSize: 4096}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// merged is a segment of 2,000 transactions.
func merged(b *testing.B) []byte {
	h := newHistory(rand.New(rand.NewPCG(1, 1)), 4096, 2000, 20_000, 8)
	return h.encode(b, testPlace, WriterOptions{}, 0, len(h.txns))
}

func BenchmarkOpen(b *testing.B) {
	o := merged(b)
	b.ReportAllocs()
	for b.Loop() {
		open(b, o, testPlace)
	}
}

func BenchmarkFind(b *testing.B) {
	r := open(b, merged(b), testPlace)
	rnd := rand.New(rand.NewPCG(1, 1))
	i := r.Info()
	b.ReportAllocs()
	for b.Loop() {
		p := i.MinPgno + wal.Pgno(rnd.Uint32N(uint32(i.MaxPgno-i.MinPgno)))
		if _, _, err := r.Find(p, i.First.ID+wal.TXID(rnd.IntN(i.Txns))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads pages of groups that have to be decoded each time.
func BenchmarkRead(b *testing.B) {
	r := open(b, merged(b), testPlace)
	var refs []Ref
	for ref, err := range r.Refs(0) {
		if err != nil {
			b.Fatal(err)
		}
		refs = append(refs, ref)
	}
	page := make([]byte, 4096)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i = (i + 997) % len(refs)
		if err := r.Read(refs[i], page); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAll(b *testing.B) {
	r := open(b, merged(b), testPlace)
	b.SetBytes(r.Info().Versions * 4096)
	for b.Loop() {
		for _, err := range r.All(0) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkMerge merges 200 segments of ten commits.
func BenchmarkMerge(b *testing.B) {
	h := newHistory(rand.New(rand.NewPCG(1, 1)), 4096, 2000, 20_000, 8)
	var in []*Reader
	bytes := int64(0)
	for i := 0; i < len(h.txns); i += 10 {
		r := open(b, h.encode(b, testPlace, WriterOptions{Raw: true}, i, i+10), testPlace)
		bytes += r.Info().Versions * 4096
		in = append(in, r)
	}
	b.SetBytes(bytes)
	for b.Loop() {
		if _, err := Merge(io.Discard, testPlace, WriterOptions{}, in...); err != nil {
			b.Fatal(err)
		}
	}
}

// segments are of commits that SQLite has made.
func segments(b *testing.B, do func(b *testing.B, c commits)) {
	b.Run("small", func(b *testing.B) { do(b, smallCommits(b, 10_000)) })
	b.Run("shop", func(b *testing.B) { do(b, shopCommits(b, 5000)) })
}

// BenchmarkSegment writes a segment.
func BenchmarkSegment(b *testing.B) {
	segments(b, func(b *testing.B, c commits) {
		b.SetBytes(int64(len(c.versions) * c.pageSize))
		b.ReportAllocs()
		size := 0
		for b.Loop() {
			size = len(c.write(b, WriterOptions{}))
		}
		b.ReportMetric(float64(size)/float64(len(c.txns)), "B/commit")
	})
}

// BenchmarkSegmentAll reads all of a segment.
func BenchmarkSegmentAll(b *testing.B) {
	segments(b, func(b *testing.B, c commits) {
		r := open(b, c.write(b, WriterOptions{}), testPlace)
		b.SetBytes(r.Info().Versions * int64(c.pageSize))
		b.ReportAllocs()
		for b.Loop() {
			for _, err := range r.All(0) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// BenchmarkSegmentRead reads pages of a segment, the group of each decoded anew,
// and tells how many bytes that fetches and keeps.
func BenchmarkSegmentRead(b *testing.B) {
	segments(b, func(b *testing.B, c commits) {
		r := open(b, c.write(b, WriterOptions{}), testPlace)
		var refs []Ref
		fetched, kept := 0, 0
		for ref, err := range r.Refs(0) {
			if err != nil {
				b.Fatal(err)
			}
			refs = append(refs, ref)
			e, err := r.Extent(ref.Group)
			if err != nil {
				b.Fatal(err)
			}
			fetched += e.Stored
		}
		page := make([]byte, c.pageSize)
		r.memory = keepsNothing{&kept}
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			i = (i + 997) % len(refs)
			if err := r.Read(refs[i], page); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(fetched)/float64(len(refs)), "B-fetched")
		b.ReportMetric(float64(kept)/float64(b.N), "B-kept")
	})
}

// keepsNothing keeps nothing, and counts what it should keep.
type keepsNothing struct{ size *int }

func (m keepsNothing) Get(_ int64, load func() (any, int, error)) (any, error) {
	v, n, err := load()
	*m.size += n
	return v, err
}
