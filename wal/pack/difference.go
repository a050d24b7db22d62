package pack

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"sync"
)

// A commit changes a few bytes of most of the pages it writes, and the versions of
// a page lie next to each other. So a group of a segment keeps many of them as what
// differs from the version in front. That takes a hundredth of the time in which
// zstd would find out, and leaves zstd that much less to do.
//
//	content = uvarint pages
//	          for each page, uvarint: 0 when it is whole, otherwise 1 + number of runs
//	          for each run, uvarint: bytes that are as in the page in front, since the run in front of it
//	          for each run, uvarint: length
//	          for each page: all of its bytes, or those of its runs

// pagesCoder puts together the pages of one group.
type pagesCoder struct {
	pageSize int
	pages    int
	counts   []byte // columns, as above
	skips    []byte
	lengths  []byte
	bytes    []byte // behind the byte of codecRaw: when all pages are whole, it is a block as it is
	differ   int    // pages that are differences
	last     []byte // the last page, when it is a difference
}

// reset empties c for pages of another group.
func (c *pagesCoder) reset(pageSize int) {
	*c = pagesCoder{
		pageSize: pageSize, counts: c.counts[:0], skips: c.skips[:0], lengths: c.lengths[:0],
		bytes: append(c.bytes[:0], codecRaw), last: c.last[:0],
	}
}

// size is how many bytes the pages take before they are compressed.
func (c *pagesCoder) size() int { return len(c.skips) + len(c.lengths) + len(c.bytes) - 1 }

// plain is how many bytes the pages have.
func (c *pagesCoder) plain() int { return c.pages * c.pageSize }

// memory is how many bytes c takes.
func (c *pagesCoder) memory() int {
	return cap(c.counts) + cap(c.skips) + cap(c.lengths) + cap(c.bytes) + cap(c.last)
}

// add appends a page. similar says that it is likely to differ little from the one
// in front of it.
func (c *pagesCoder) add(page []byte, similar bool) {
	c.pages++
	if similar && c.addDifference(page) {
		c.differ++
		return
	}
	c.counts = append(c.counts, 0)
	c.bytes = append(c.bytes, page...)
	c.last = c.last[:0]
}

// addDifference appends a page as what differs from the last one. It does
// nothing, and reports false, when that is more than half of it.
func (c *pagesCoder) addDifference(page []byte) bool {
	skips, lengths, from := len(c.skips), len(c.lengths), len(c.bytes)
	last, kept := c.last, len(c.last) > 0
	if !kept {
		last = c.bytes[from-c.pageSize:]
	}
	runs, behind := 0, 0
	for begin, end := nextRun(last, page, 0); begin < end; begin, end = nextRun(last, page, end) {
		c.skips = binary.AppendUvarint(c.skips, uint64(begin-behind))
		c.lengths = binary.AppendUvarint(c.lengths, uint64(end-begin))
		c.bytes = append(c.bytes, page[begin:end]...)
		runs, behind = runs+1, end
		if len(c.skips)-skips+len(c.lengths)-lengths+len(c.bytes)-from > c.pageSize/2 {
			c.skips, c.lengths, c.bytes = c.skips[:skips], c.lengths[:lengths], c.bytes[:from]
			return false
		}
		if kept {
			copy(last[begin:end], page[begin:end])
		}
	}
	if !kept {
		c.last = append(c.last[:0], page...)
	}
	c.counts = binary.AppendUvarint(c.counts, uint64(runs+1))
	return true
}

// nextRun returns the next bytes from i on in which a and b differ; it is empty
// when there are none. They are looked for eight at a time, so a run goes on over
// fewer than eight that are equal, and some more.
func nextRun(a, b []byte, i int) (begin, end int) {
	const stride = 128
	word := func(i int) uint64 {
		return binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:])
	}
	for i = (i + 7) &^ 7; i < len(b); i += 8 {
		for i%stride == 0 && i < len(b) && bytes.Equal(a[i:i+stride], b[i:i+stride]) {
			i += stride
		}
		if i == len(b) {
			break
		}
		x := word(i)
		if x == 0 {
			continue
		}
		begin = i + bits.TrailingZeros64(x)/8
		for {
			end = i + 8 - bits.LeadingZeros64(x)/8
			if i += 8; i == len(b) {
				return begin, end
			}
			if x = word(i); x == 0 {
				return begin, end
			}
		}
	}
	return len(b), len(b)
}

// appendBlock appends the block of the pages to dst.
func (c *pagesCoder) appendBlock(dst []byte) []byte {
	if c.differ == 0 {
		return appendBlock(dst, c.bytes[1:], false)
	}
	n := len(dst)
	content := contents.Get().(*[]byte)
	defer contents.Put(content)
	*content = c.appendContent((*content)[:0])
	dst = appendFrame(append(dst, codecDifferences), *content)
	if len(*content) <= c.plain() && len(dst)-n < 1+c.plain() {
		return dst
	}
	// Hardly any of it is differences, and nothing of it can be compressed.
	pages, ok := parseDifferences(*content, c.pages, c.pageSize)
	if !ok {
		panic("pack: the differences that were made cannot be read")
	}
	return appendBlock(dst[:n], pages.appendTo(nil), false)
}

// contents are where differences are put together.
var contents = sync.Pool{New: func() any { return new([]byte) }}

// appendContent appends the content of the block to b.
func (c *pagesCoder) appendContent(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(c.pages))
	for _, column := range [][]byte{c.counts, c.skips, c.lengths, c.bytes[1:]} {
		b = append(b, column...)
	}
	return b
}
