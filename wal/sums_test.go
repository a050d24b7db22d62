package wal

import (
	"slices"
	"testing"

	"github.com/minio/crc64nvme"
	"pgregory.net/rapid"
)

// The checksum of a page is that of its number and the page in one piece.
func TestPageSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		page := rapid.SliceOfN(rapid.Byte(), 0, 1000).Draw(t, "page")
		p := rapid.Uint32().Draw(t, "pgno")
		b := append([]byte{byte(p >> 24), byte(p >> 16), byte(p >> 8), byte(p)}, page...)
		if got, want := PageSum(Pgno(p), page), Checksum(crc64nvme.Checksum(b)); got != want {
			t.Fatalf("PageSum is %v, want %v", got, want)
		}
	})
	// The check value of CRC-64/NVME over "123456789", whose first four bytes are
	// the page number here.
	if got := PageSum(0x31323334, []byte("56789")); got != 0xae8b14860a799888 {
		t.Errorf("PageSum is %v, want the check value of CRC-64/NVME", got)
	}
}

// PageSums does what a map from page to checksum does.
func TestPageSumsAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const maxSize = 3*len(sumBlock{}) + 7
		pageSize := rapid.SampledFrom([]int{512, 4096}).Draw(t, "page size")
		s, zeros := NewPageSums(pageSize), make([]byte, pageSize)
		var model []Checksum // of page i+1
		resize := func(n int) {
			for len(model) < n {
				model = append(model, PageSum(Pgno(len(model)+1), zeros))
			}
			model = model[:n]
		}
		frames := rapid.SliceOfN(rapid.IntRange(1, maxSize), 0, 5)
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				p, c := rapid.IntRange(1, maxSize).Draw(t, "page"), Checksum(rapid.Uint64().Draw(t, "sum"))
				s.Set(Pgno(p), c)
				resize(max(p, len(model)))
				model[p-1] = c
			},
			"resize": func(t *rapid.T) {
				n := rapid.IntRange(0, maxSize).Draw(t, "size")
				s.Resize(Pgno(n), pageSize)
				resize(n)
			},
			"apply": func(t *rapid.T) {
				c := Commit{Size: Pgno(maxSize), PageSize: pageSize}
				resize(maxSize)
				for i, p := range frames.Draw(t, "pages") {
					c.Frames = append(c.Frames, Frame{Pgno: Pgno(p), Sum: Checksum(i)})
					model[p-1] = Checksum(i)
				}
				s.Apply(c)
			},
			"": func(t *rapid.T) {
				var total Checksum
				for i, c := range model {
					total ^= c
					if got := s.At(Pgno(i + 1)); got != c {
						t.Fatalf("page %d has %v, want %v", i+1, got, c)
					}
				}
				if s.Total() != total || s.Size() != Pgno(len(model)) {
					t.Fatalf("total %v of %d pages, want %v of %d", s.Total(), s.Size(), total, len(model))
				}
				if s.At(0) != 0 || s.At(s.Size()+1) != 0 {
					t.Fatal("a page that does not exist has a checksum")
				}
			},
		})
	})
}

// Pages that nobody wrote cost nothing, however many.
func TestPageSumsGrowCheaply(t *testing.T) {
	n := testing.AllocsPerRun(5, func() {
		s := NewPageSums(4096)
		s.Set(100_000_000, 1)
		if s.Total() == 0 || s.At(99_999_999) != PageSum(99_999_999, make([]byte, 4096)) {
			t.Error("pages in between do not count as zeros")
		}
		s.Resize(0, 4096)
		if s.Total() != 0 {
			t.Errorf("the checksum of no pages is %v", s.Total())
		}
	})
	if n > 10 {
		t.Errorf("%v allocations for 100 million pages", n)
	}
}

// With another page size nothing of the old sums is left.
func TestPageSumsOfAnotherPageSize(t *testing.T) {
	s, want := NewPageSums(512), NewPageSums(1024)
	s.Set(3, 12345)
	s.Resize(4, 1024)
	want.Resize(4, 1024)
	if s.Total() != want.Total() || s.At(3) != want.At(3) {
		t.Errorf("total %v, want %v", s.Total(), want.Total())
	}
}

func BenchmarkPageSumsApply(b *testing.B) {
	s := NewPageSums(4096)
	s.Resize(1_000_000, 4096)
	c := Commit{Size: 1_000_000, PageSize: 4096, Frames: []Frame{{Pgno: 77, Sum: 1}, {Pgno: 999_999, Sum: 2}}}
	b.ReportAllocs()
	for b.Loop() {
		s.Apply(c)
	}
}

// A clone lives by itself, and Differ tells what makes one another.
func TestPageSumsDiffer(t *testing.T) {
	s := NewPageSums(512)
	for p := Pgno(1); p <= 600; p++ {
		s.Set(p, Checksum(p)*7)
	}
	c := s.Clone()
	if got := slices.Collect(s.Differ(c)); got != nil || c.Total() != s.Total() || c.Size() != s.Size() {
		t.Fatalf("a clone differs in %v", got)
	}
	s.Set(3, 1)
	s.Set(599, 2)
	s.Resize(602, 512)
	if got, want := slices.Collect(s.Differ(c)), []Pgno{3, 599, 601, 602}; !slices.Equal(got, want) {
		t.Errorf("pages %v differ, want %v", got, want)
	}
	if got, want := slices.Collect(c.Differ(s)), []Pgno{3, 599}; !slices.Equal(got, want) {
		t.Errorf("the other way round, pages %v differ, want %v", got, want)
	}
	if c.At(3) != 21 {
		t.Errorf("page 3 of the clone changed to %v", c.At(3))
	}
}
