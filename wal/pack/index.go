package pack

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/walback/walback/wal"
)

// keysPerIndex is the number of keys after which an index block ends with the
// group they end in.
const keysPerIndex = 4096

// An index block holds, for each of its groups, the group's stored length, its
// number of versions, their keys, and the lower halves of their pages' checksums:
//
//	group  = uvarint stored | uvarint count | count × key | count × sum
//	key    = uvarint page number - that of the key in front (0 in front of the first)
//	         if that is 0:  uvarint transaction - that of the key in front
//	         otherwise:     zigzag varint transaction - that of the block's first key
//	sum    = 4 bytes
//
// The root has the block's first key too, and the numbers of groups and keys.

// keyCoder appends the keys of one index block.
type keyCoder struct {
	pgno  wal.Pgno // last key
	txid  wal.TXID
	first wal.TXID // transaction of the block's first key
	len   int      // keys so far
}

// append appends a key, which must be greater than all in front.
func (c *keyCoder) append(b []byte, p wal.Pgno, id wal.TXID) []byte {
	if c.len == 0 {
		c.pgno, c.first = 0, id
	}
	b = binary.AppendUvarint(b, uint64(p-c.pgno))
	if p == c.pgno {
		b = binary.AppendUvarint(b, uint64(id-c.txid))
	} else {
		b = binary.AppendVarint(b, int64(id)-int64(c.first))
	}
	c.pgno, c.txid = p, id
	c.len++
	return b
}

// index is a decoded index block.
type index struct {
	keys       []key // ascending
	sums       []uint32
	ends       []int32 // for each group, how many of keys lie in it and in front of it
	groupEnds  []int64 // for each group, the offset behind it
	firstGroup int
	groupsAt   int64
}

// memory is the size of a decoded index block in bytes.
func (x *index) memory() int { return 12*len(x.keys) + 12*len(x.ends) + 96 }

// parseIndex decodes the index block that entry n of the root tells of.
func parseIndex(r *root, n int, b []byte, overhead int) (*index, bool) {
	e, next := &r.index[n], key(math.MaxUint64)
	if n+1 < len(r.index) {
		next = r.index[n+1].first
	}
	if e.keys > len(b)/6 || e.groups > len(b)/8 {
		return nil, false
	}
	f := &fields{b: b}
	x := &index{
		keys: make([]key, 0, e.keys), sums: make([]uint32, 0, e.keys),
		ends: make([]int32, 0, e.groups), groupEnds: make([]int64, 0, e.groups),
		firstGroup: e.firstGroup, groupsAt: e.groupsAt,
	}
	at := e.groupsAt
	pgno, id := wal.Pgno(0), e.txid
	for range e.groups {
		stored := int64(f.uvarint(maxGroup + 1 + maxOverhead))
		count := int(f.uvarint(uint64(min(e.keys-len(x.keys), maxGroup/r.PageSize))))
		if count == 0 || stored == 0 || stored > int64(count*r.PageSize+1+overhead) {
			return nil, false
		}
		at += stored
		for range count {
			delta := wal.Pgno(f.uvarint(uint64(r.MaxPgno - pgno)))
			if delta == 0 {
				id += wal.TXID(f.uvarint(uint64(r.Last.ID - id)))
			} else {
				pgno += delta
				id = wal.TXID(int64(e.txid) + f.varint(maxTxns))
			}
			if id < r.First.ID || id > r.Last.ID {
				return nil, false
			}
			x.keys = append(x.keys, r.key(pgno, id))
		}
		for range count {
			x.sums = append(x.sums, f.uint32())
		}
		x.ends = append(x.ends, int32(len(x.keys)))
		x.groupEnds = append(x.groupEnds, at)
	}
	if !f.done() || len(x.keys) != e.keys || at != e.groupsAt+e.bytes || x.keys[0] != e.first ||
		x.keys[len(x.keys)-1] >= next || !ascending(x.keys) {
		return nil, false
	}
	return x, true
}

func ascending(keys []key) bool {
	for i := 1; i < len(keys); i++ {
		if keys[i] <= keys[i-1] {
			return false
		}
	}
	return true
}

// last returns the place of the last key that is not greater than k, or -1.
func (x *index) last(k key) int {
	i, found := slices.BinarySearch(x.keys, k)
	if found {
		return i
	}
	return i - 1
}

// group returns the group that key i lies in, counted from the block's first,
// and the key's slot in it.
func (x *index) group(i int) (group, slot int) {
	group, _ = slices.BinarySearch(x.ends, int32(i+1))
	return group, i - x.keysBefore(group)
}

// keysBefore returns how many keys of the block lie in front of group g of it.
func (x *index) keysBefore(g int) int {
	if g == 0 {
		return 0
	}
	return int(x.ends[g-1])
}

// extent returns where group g of the block lies, and how many versions it has.
func (x *index) extent(g int) (off int64, stored, count int) {
	off = x.groupsAt
	if g > 0 {
		off = x.groupEnds[g-1]
	}
	return off, int(x.groupEnds[g] - off), int(x.ends[g]) - x.keysBefore(g)
}

// appendGroupKeys appends a group to the plaintext of an index block.
func appendGroupKeys(b []byte, stored, count int, keys, sums []byte) []byte {
	b = binary.AppendUvarint(b, uint64(stored))
	b = binary.AppendUvarint(b, uint64(count))
	return append(append(b, keys...), sums...)
}

// pageSum is what an index says of a page: the lower half of its checksum. It
// proves that the place the index names holds this page, and this version of
// it.
func pageSum(p wal.Pgno, page []byte) uint32 { return uint32(wal.PageSum(p, page)) }
