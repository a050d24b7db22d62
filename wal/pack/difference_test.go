package pack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawPages draws the pages of a group, each made of the one in front of it or
// anew, and for each whether it is said to be similar to the one in front, which
// it need not be.
func drawPages(t *rapid.T) (pages [][]byte, similar []bool) {
	pageSize := 1 << rapid.IntRange(9, 16).Draw(t, "log2 page size")
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	for i := range rapid.IntRange(1, min(100, 1<<20/pageSize)).Draw(t, "pages") {
		page := make([]byte, pageSize)
		random(r, page[:pageSize/rapid.SampledFrom([]int{1, 4, pageSize}).Draw(t, "part that is random")])
		if i > 0 && rapid.IntRange(0, 9).Draw(t, "new") > 0 {
			copy(page, pages[i-1])
			for range rapid.SampledFrom([]int{0, 1, 3, 300}).Draw(t, "changes") {
				from := r.IntN(pageSize)
				random(r, page[from:min(pageSize, from+1+r.IntN(1+r.IntN(100)))])
			}
		}
		pages = append(pages, page)
		similar = append(similar, i > 0 && rapid.IntRange(0, 9).Draw(t, "similar") > 0)
	}
	return pages, similar
}

func random(r *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// encodePages makes the block of a group.
func encodePages(pages [][]byte, similar []bool) (block []byte, differ int) {
	var c pagesCoder
	c.reset(len(pages[0]))
	for i, p := range pages {
		c.add(p, similar[i])
	}
	return c.appendBlock([]byte("in front"))[len("in front"):], c.differ
}

// TestAnyPages: the pages of a group are read as they were written, in any order,
// and the block is never longer than they are.
func TestAnyPages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pages, similar := drawPages(t)
		pageSize := len(pages[0])
		block, _ := encodePages(pages, similar)
		if len(block) > 1+len(pages)*pageSize {
			t.Fatalf("%d pages of %d bytes take %d", len(pages), pageSize, len(block))
		}
		dst := make([]byte, 0, rapid.SampledFrom([]int{0, 100, len(pages)*pageSize + DecodeSlack}).Draw(t, "memory"))
		p, err := decodePages(dst, block, len(pages), pageSize)
		if err != nil {
			t.Fatal(err)
		}
		page := make([]byte, pageSize)
		for range 2 * len(pages) {
			slot := rapid.IntRange(0, len(pages)-1).Draw(t, "slot")
			if p.Read(slot, page); !bytes.Equal(page, pages[slot]) {
				t.Fatalf("page %d differs", slot)
			}
		}
		if p.count() != len(pages) || !bytes.Equal(p.appendTo(nil), slices.Concat(pages...)) {
			t.Fatal("all of them differ")
		}
	})
}

// TestDifferencesSave: a version that differs in a row takes little more than the
// row, and one that is the same nearly nothing.
func TestDifferencesSave(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	one := make([]byte, 4096)
	random(r, one)
	alone, _ := encodePages([][]byte{one}, []bool{false})
	two := slices.Clone(one)
	two[3]++
	two[4095]++
	random(r, two[1000:1050])
	for name, c := range map[string]struct {
		page []byte
		most int
	}{"the same": {one, 16}, "a row": {two, 80}} {
		block, differ := encodePages([][]byte{one, c.page}, []bool{false, true})
		if differ != 1 || block[0] != codecDifferences || len(block) > len(alone)+c.most {
			t.Errorf("%s: %d bytes instead of %d, %d differences", name, len(block), len(alone), differ)
		}
	}
	random(r, two[:3000])
	if _, differ := encodePages([][]byte{one, two}, []bool{false, true}); differ != 0 {
		t.Error("most of a page is stored as a difference")
	}
}

// TestDifferencesOfNoUse: many pages that cannot be compressed, and of one of them
// a difference of half of it, which saves less than what tells of the others
// takes.
func TestDifferencesOfNoUse(t *testing.T) {
	const pageSize, n = 512, 600
	r := rand.New(rand.NewPCG(1, 1))
	pages, similar := make([][]byte, n), make([]bool, n)
	for i := range pages {
		pages[i] = make([]byte, pageSize)
		random(r, pages[i])
	}
	copy(pages[n-1][240:], pages[n-2][240:])
	similar[n-1] = true
	block, differ := encodePages(pages, similar)
	if differ != 1 || block[0] != codecRaw {
		t.Fatalf("%d differences, codec %d; this tests nothing any more", differ, block[0])
	}
	if !bytes.Equal(block[1:], slices.Concat(pages...)) {
		t.Fatal("the pages differ")
	}
}

// content makes the content of differences of columns.
func content(pages uint64, counts, skips, lengths []uint64, data []byte) []byte {
	b := binary.AppendUvarint(nil, pages)
	for _, n := range slices.Concat(counts, skips, lengths) {
		b = binary.AppendUvarint(b, n)
	}
	return append(b, data...)
}

// TestDifferencesRefused: content that contradicts itself, or what the index says
// of it, is no pages.
func TestDifferencesRefused(t *testing.T) {
	type u = []uint64
	page := bytes.Repeat([]byte{7}, 512)
	bytes := func(n int) []byte { return append(bytes.Clone(page), make([]byte, n)...) }
	for name, c := range map[string]struct {
		content []byte
		ok      bool
	}{
		"a difference":                {content(2, u{0, 3}, u{500, 2}, u{5, 5}, bytes(10)), true},
		"most of a page":              {content(2, u{0, 2}, u{0}, u{500}, bytes(500)), true},
		"longer than the pages":       {content(2, u{0, 2}, u{0}, u{512}, bytes(512)), false},
		"the same again":              {content(2, u{0, 1}, nil, nil, bytes(0)), true},
		"of fewer pages":              {content(1, u{0}, nil, nil, bytes(0)), false},
		"of more pages":               {content(3, u{0, 1, 1}, nil, nil, bytes(0)), false},
		"begins with a difference":    {content(2, u{1, 0}, nil, nil, bytes(0)), false},
		"begins in front of nothing":  {content(2, u{2, 0}, u{0}, u{1}, bytes(1)), false},
		"skips behind the end":        {content(2, u{0, 2}, u{513}, u{1}, bytes(1)), false},
		"goes on behind the end":      {content(2, u{0, 2}, u{508}, u{5}, bytes(5)), false},
		"a second run behind the end": {content(2, u{0, 3}, u{508, 1}, u{3, 1}, bytes(4)), false},
		"an empty run":                {content(2, u{0, 2}, u{1}, u{0}, bytes(0)), false},
		"a byte too many":             {content(2, u{0, 2}, u{1}, u{5}, bytes(6)), false},
		"a byte too few":              {content(2, u{0, 2}, u{1}, u{5}, bytes(4)), false},
		"half a page":                 {content(2, u{0, 0}, nil, nil, bytes(256)), false},
		"runs that are not there":     {content(2, u{0, 500}, u{1}, u{1}, nil), false},
		"a number in a longer form":   {append([]byte{2, 0, 2, 0x81, 0, 5}, bytes(5)...), false},
		"nothing":                     {nil, false},
	} {
		block := appendFrame([]byte{codecDifferences}, c.content)
		p, err := decodePages(nil, block, 2, len(page))
		if (err == nil) != c.ok {
			t.Errorf("%s: error %v", name, err)
		}
		if err == nil && len(p.appendTo(nil)) != 2*len(page) {
			t.Errorf("%s: not two pages", name)
		}
		if _, err := decodeBlock(nil, block, 1<<20); err == nil {
			t.Errorf("%s: passes for a block that is no group's", name)
		}
	}
}

// FuzzDifferences takes anything for the content of differences. What is not
// refused are so many pages; each reads the same alone and after the one in front;
// and what they are written as is read as these again.
func FuzzDifferences(f *testing.F) {
	page := make([]byte, 512)
	f.Add(uint8(2), content(2, []uint64{0, 3}, []uint64{500, 2}, []uint64{5, 5}, append(page, "0123456789"...)))
	f.Add(uint8(3), content(3, []uint64{0, 1, 2}, []uint64{0}, []uint64{512}, append(page, page...)))
	f.Add(uint8(1), content(1, []uint64{0}, nil, nil, page))
	f.Add(uint8(200), bytes.Repeat([]byte{1}, 300))
	f.Fuzz(func(t *testing.T, count uint8, b []byte) {
		before := allocated()
		p, ok := parseDifferences(b, int(count)+1, 512)
		if took := allocated() - before; took > uint64(1<<20+20*len(b)) {
			t.Fatalf("%d bytes were allocated for %d", took, len(b))
		}
		if !ok {
			return
		}
		all := p.appendTo(nil)
		if p.count() != int(count)+1 || len(all) != p.count()*512 {
			t.Fatalf("%d pages, and %d bytes of them", p.count(), len(all))
		}
		var pages [][]byte
		similar := make([]bool, p.count())
		page := make([]byte, 512)
		for i := range p.count() {
			pages = append(pages, all[i*512:][:512])
			similar[i] = p.at[i].runs != whole
			if p.Read(i, page); !bytes.Equal(page, pages[i]) {
				t.Fatalf("page %d is another one alone", i)
			}
		}
		block, _ := encodePages(pages, similar)
		again, err := decodePages(nil, block, len(pages), 512)
		if err != nil || !bytes.Equal(again.appendTo(nil), all) {
			t.Fatalf("it is written as other pages: %v", err)
		}
	})
}

// TestNextRun compares it with looking at one byte after the other: a run begins
// and ends with a byte that differs, and between runs all bytes are equal.
func TestNextRun(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 2000 {
		a := make([]byte, 512)
		random(r, a)
		b := slices.Clone(a)
		for range n % 40 {
			i := r.IntN(len(b))
			random(r, b[i:min(len(b), i+1+r.IntN(20))])
		}
		behind := 0
		for begin, end := nextRun(a, b, 0); ; begin, end = nextRun(a, b, end) {
			if !bytes.Equal(a[behind:begin], b[behind:begin]) {
				t.Fatalf("%x and %x differ in front of %d", a, b, begin)
			}
			if behind = end; begin == end {
				break
			}
			if a[begin] == b[begin] || a[end-1] == b[end-1] || begin < 0 || end > len(b) {
				t.Fatalf("%x and %x: run from %d to %d", a, b, begin, end)
			}
		}
		if behind != len(b) {
			t.Fatalf("the last run ends at %d", behind)
		}
	}
}
