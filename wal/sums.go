package wal

import (
	"fmt"
	"iter"
	"math/bits"
	"slices"
)

// PageSums keeps the PageSum of every page of a database and their XOR, the
// checksum of the database, up to date page by page. It takes eight bytes of
// memory a page, none for long runs of pages that were never set.
//
// A page that was never set counts as filled with zeros: that is what a database
// file reads as where nobody has written, and it makes growing cheap.
//
// A PageSums is not safe for concurrent use.
type PageSums struct {
	pageSize int
	size     Pgno
	total    Checksum
	// blocks hold, for each page, its PageSum XOR that of the same page filled
	// with zeros. A block of zeros and no block are the same.
	blocks []*sumBlock
	// CRC is affine: the PageSum of a page of zeros is zero XOR the bits[i] of
	// each bit i set in its page number.
	zero Checksum
	bits [32]Checksum
}

// sumBlock is 2 KiB: small enough for a small database, large enough that the
// pointers to them do not count.
type sumBlock [256]Checksum

// NewPageSums returns the sums of a database without pages. It panics if
// pageSize (in bytes) is not one that SQLite can use.
func NewPageSums(pageSize int) *PageSums {
	s := &PageSums{}
	s.begin(pageSize)
	return s
}

func (s *PageSums) begin(pageSize int) {
	if !ValidPageSize(pageSize) {
		panic(fmt.Sprintf("wal: page size %d", pageSize))
	}
	*s = PageSums{pageSize: pageSize}
	page := make([]byte, pageSize)
	s.zero = PageSum(0, page)
	for i := range s.bits {
		s.bits[i] = PageSum(1<<i, page) ^ s.zero
	}
}

// PageSize returns the size of a page in bytes.
func (s *PageSums) PageSize() int { return s.pageSize }

// Size returns the number of pages.
func (s *PageSums) Size() Pgno { return s.size }

// Total returns the checksum of the database: the XOR of the sums of all its
// pages, zero if there are none.
func (s *PageSums) Total() Checksum { return s.total }

// At returns the PageSum of page p, and zero if the database has no such page.
func (s *PageSums) At(p Pgno) Checksum {
	if p == 0 || p > s.size {
		return 0
	}
	c := s.linear(p) ^ s.zero
	if b := s.blocks[(p-1)/Pgno(len(sumBlock{}))]; b != nil {
		c ^= b[(p-1)%Pgno(len(sumBlock{}))]
	}
	return c
}

// Set makes c the PageSum of page p. The database grows if it has no such page.
// It panics if p is zero.
func (s *PageSums) Set(p Pgno, c Checksum) {
	if p == 0 {
		panic("wal: there is no page 0")
	}
	if p > s.size {
		s.resize(p)
	}
	b := &s.blocks[(p-1)/Pgno(len(sumBlock{}))]
	if *b == nil {
		*b = new(sumBlock)
	}
	d := &(*b)[(p-1)%Pgno(len(sumBlock{}))]
	c ^= s.linear(p) ^ s.zero
	s.total ^= *d ^ c
	*d = c
}

// Resize makes the database n pages long: it drops the pages above n, or adds
// pages filled with zeros. With a pageSize other than before nothing is left of
// the old pages: all n are filled with zeros. It panics if pageSize (in bytes)
// is not one that SQLite can use.
func (s *PageSums) Resize(n Pgno, pageSize int) {
	if pageSize != s.pageSize {
		s.begin(pageSize)
	}
	s.resize(n)
}

func (s *PageSums) resize(n Pgno) {
	if n == s.size {
		return
	}
	const per = Pgno(len(sumBlock{}))
	s.total ^= s.zeros(n) ^ s.zeros(s.size)
	s.size = n
	blocks := int((uint64(n) + uint64(per) - 1) / uint64(per))
	if blocks > len(s.blocks) {
		s.blocks = append(s.blocks, make([]*sumBlock, blocks-len(s.blocks))...)
		return
	}
	for i := int(n / per); i < len(s.blocks); i++ {
		b := s.blocks[i]
		if b == nil {
			continue
		}
		first := Pgno(0) // in this block, of the pages to drop
		if i == int(n/per) {
			first = n % per
		}
		for j := first; j < per; j++ {
			s.total ^= b[j]
			b[j] = 0
		}
	}
	clear(s.blocks[blocks:])
	s.blocks = s.blocks[:blocks]
}

// Apply brings the sums up to date with a transaction.
func (s *PageSums) Apply(c Commit) {
	s.Resize(c.Size, c.PageSize)
	for _, f := range c.Frames {
		s.Set(f.Pgno, f.Sum)
	}
}

// Clone returns a copy that lives on by itself.
func (s *PageSums) Clone() *PageSums {
	c := *s
	c.blocks = slices.Clone(s.blocks)
	for i, b := range c.blocks {
		if b != nil {
			b := *b
			c.blocks[i] = &b
		}
	}
	return &c
}

// Differ yields the pages, ascending, that are other ones in s than in t, or
// that t does not have. Pages that only t has are not among them.
func (s *PageSums) Differ(t *PageSums) iter.Seq[Pgno] {
	return func(yield func(Pgno) bool) {
		for p := Pgno(1); p != 0 && p <= s.size; p++ {
			if (p > t.size || s.At(p) != t.At(p)) && !yield(p) {
				return
			}
		}
	}
}

// zeros returns the XOR of the sums of pages 1 to n filled with zeros.
func (s *PageSums) zeros(n Pgno) Checksum {
	// The XOR of 1…n repeats with period four, and so do the page numbers'
	// contributions; the constant is left over when n is odd.
	c := s.linear([...]Pgno{n, 1, n + 1, 0}[n%4])
	if n%2 == 1 {
		c ^= s.zero
	}
	return c
}

// linear returns what page number p contributes to the sum of a page of zeros.
func (s *PageSums) linear(p Pgno) Checksum {
	var c Checksum
	for v := uint32(p); v != 0; v &= v - 1 {
		c ^= s.bits[bits.TrailingZeros32(v)]
	}
	return c
}
