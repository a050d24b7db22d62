package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Pages are the pages of a group. Where they are stored as differences they are
// kept as such: any of them is put together as fast as it could be copied from
// memory that is not in the processor's cache, and they take a tenth of that memory.
type Pages struct {
	pageSize int
	plain    []byte // all of them, one behind the other; or:
	content  []byte // as in difference.go
	at       []pageAt
}

// pageAt is where a page lies in the content of differences.
type pageAt struct {
	runs                   int32 // whole: none
	skips, lengths, begins int32 // of its first run, or of the page
}

const whole = -1

// errDifferences becomes part of a CorruptError.
var errDifferences = errors.New("the differences make no pages")

// decodePages decodes the block of a group of count pages. What Pages has lies in
// memory as that of decodeBlock does.
func decodePages(dst, block []byte, count, pageSize int) (*Pages, error) {
	size := count * pageSize
	if len(block) > 0 && block[0] == codecDifferences {
		content, err := decodeFrame(dst, block[1:], size)
		if err != nil {
			return nil, err
		}
		p, ok := parseDifferences(content, count, pageSize)
		if !ok {
			return nil, errDifferences
		}
		return p, nil
	}
	plain, err := decodeBlock(dst, block, size)
	if err != nil {
		return nil, err
	}
	if len(plain) != size {
		return nil, fmt.Errorf("%d bytes, want %d", len(plain), size)
	}
	return &Pages{pageSize: pageSize, plain: plain}, nil
}

// parseDifferences finds the pages in content; false if it is not of count of
// them.
func parseDifferences(content []byte, count, pageSize int) (*Pages, bool) {
	f := &fields{b: content}
	if f.uvarint(uint64(count)) != uint64(count) || count > len(f.b) {
		return nil, false
	}
	p := &Pages{pageSize: pageSize, content: content, at: make([]pageAt, count)}
	runs := 0
	for i := range p.at {
		n := int32(f.uvarint(uint64(pageSize))) - 1
		p.at[i].runs = n
		runs += int(max(n, 0))
	}
	skips := fields{b: f.b}
	f.skip(runs)
	lengths := fields{b: f.b}
	f.skip(runs)
	if f.bad || p.at[0].runs != whole {
		return nil, false
	}
	begin := len(content) - len(f.b)
	for i := range p.at {
		at := &p.at[i]
		at.skips, at.lengths = int32(len(content)-len(skips.b)), int32(len(content)-len(lengths.b))
		at.begins = int32(begin)
		if at.runs == whole {
			begin += pageSize
			continue
		}
		end := 0
		for range at.runs {
			end += int(skips.uvarint(uint64(pageSize - end)))
			n := int(lengths.uvarint(uint64(pageSize - end)))
			if n == 0 {
				return nil, false
			}
			end, begin = end+n, begin+n
		}
	}
	return p, !skips.bad && begin == len(content)
}

// count is how many pages there are.
func (p *Pages) count() int {
	if p.at != nil {
		return len(p.at)
	}
	return len(p.plain) / p.pageSize
}

// stored is what p keeps the pages in.
func (p *Pages) stored() []byte {
	if p.at != nil {
		return p.content
	}
	return p.plain
}

// memory is how many bytes p takes.
func (p *Pages) memory() int { return len(p.plain) + len(p.content) + 16*len(p.at) + 96 }

// Read copies the page at slot to dst, which has its length.
func (p *Pages) Read(slot int, dst []byte) {
	if p.at == nil {
		copy(dst, p.plain[slot*p.pageSize:])
		return
	}
	from := slot
	for p.at[from].runs != whole {
		from--
	}
	for i := from; i <= slot; i++ {
		p.advance(dst, i)
	}
}

// advance makes of the page in front of it the page at slot, which is a difference
// or whole.
func (p *Pages) advance(page []byte, slot int) {
	at := p.at[slot]
	bytes := p.content[at.begins:]
	if at.runs == whole {
		copy(page, bytes)
		return
	}
	skips, lengths := p.content[at.skips:], p.content[at.lengths:]
	for range at.runs {
		skip, n := binary.Uvarint(skips)
		length, m := binary.Uvarint(lengths)
		page = page[skip:]
		copy(page, bytes[:length])
		page, bytes = page[length:], bytes[length:]
		skips, lengths = skips[n:], lengths[m:]
	}
}

// appendTo appends all pages to b.
func (p *Pages) appendTo(b []byte) []byte {
	b = append(b, p.plain...)
	for i := range p.at {
		if i == 0 {
			b = append(b, p.content[p.at[0].begins:][:p.pageSize]...)
			continue
		}
		n := len(b)
		b = append(b, b[n-p.pageSize:]...)
		p.advance(b[n:], i)
	}
	return b
}
