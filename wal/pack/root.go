package pack

import (
	"encoding/binary"
	"math"

	"github.com/walback/walback/wal"
)

// maxTxns bounds the transactions of one pack, so that a key packs into 64 bits.
const maxTxns = math.MaxUint32

// txnsPerTable is the number of transactions in every block of the transaction
// table but the last.
const txnsPerTable = 4096

// key is a version's key packed so that its order is the order of versions: the
// page number above, the transaction's distance from the first one below.
type key uint64

// root is what the root block tells. All other blocks follow each other without
// gaps, so lengths are enough to find them; parseRoot computes the offsets.
type root struct {
	Info
	index  []indexEntry
	tables []tableEntry
	groups int
	mapped *mapRoot // of a map, which has neither of these
}

// indexEntry is what the root knows of an index block.
type indexEntry struct {
	pgno   wal.Pgno // of its first version
	txid   wal.TXID
	groups int
	keys   int
	bytes  int64 // of its groups, stored
	stored int   // its own length

	// Computed.
	first      key
	firstGroup int
	groupsAt   int64 // where its first group begins
	at         int64 // where it begins
}

// tableEntry is what the root knows of a block of the transaction table.
type tableEntry struct {
	delay  uint64 // microseconds from the first transaction of the pack to the block's first
	stored int

	at int64 // computed
}

// key returns the packed key of a version, which must belong to one of r's
// transactions.
func (r *root) key(p wal.Pgno, id wal.TXID) key { return key(p)<<32 | key(id-r.First.ID) }

// split is the inverse of key.
func (r *root) split(k key) (wal.Pgno, wal.TXID) {
	return wal.Pgno(k >> 32), r.First.ID + wal.TXID(uint32(k))
}

// tableCount returns how many blocks the table of n transactions has. The root
// tells the first and the last, so a third is needed for a table.
func tableCount(n int) int {
	if n <= 2 {
		return 0
	}
	return (n + txnsPerTable - 1) / txnsPerTable
}

func (r *root) append(b []byte) []byte {
	log := r.Mark.Log
	flags := bitIf(r.Fuzzy, flagFuzzy) | bitIf(!log.IsZero(), flagLog) |
		bitIf(log.BigEndian, flagBigEndian) | bitIf(r.Shrinks, flagShrinks) | bitIf(r.Thinned, flagThinned)
	b = append(b, byte(r.Kind), log2(r.PageSize), flags)
	b = binary.AppendUvarint(b, uint64(r.First.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(r.First.Time))
	b = appendState(b, r.First)
	b = binary.AppendUvarint(b, uint64(r.Txns))
	if r.Txns > 1 {
		b = binary.AppendUvarint(b, uint64(r.Last.Time-r.First.Time))
		b = appendState(b, r.Last)
	}
	b = binary.AppendUvarint(b, uint64(r.Versions))
	if r.Versions > 0 {
		b = binary.AppendUvarint(b, uint64(r.MinPgno))
		b = binary.AppendUvarint(b, uint64(r.MaxPgno-r.MinPgno))
	}
	if !log.IsZero() {
		b = binary.BigEndian.AppendUint32(b, log.Salt1)
		b = binary.BigEndian.AppendUint32(b, log.Salt2)
		b = binary.AppendUvarint(b, uint64(log.Frames))
		b = binary.BigEndian.AppendUint32(b, log.Sum[0])
		b = binary.BigEndian.AppendUint32(b, log.Sum[1])
	}
	if r.mapped != nil {
		return r.mapped.append(b)
	}
	b = binary.AppendUvarint(b, uint64(len(r.index)))
	pgno := wal.Pgno(0)
	for _, e := range r.index {
		b = binary.AppendUvarint(b, uint64(e.pgno-pgno))
		b = binary.AppendUvarint(b, uint64(e.txid-r.First.ID))
		b = binary.AppendUvarint(b, uint64(e.groups))
		b = binary.AppendUvarint(b, uint64(e.keys))
		b = binary.AppendUvarint(b, uint64(e.bytes))
		b = binary.AppendUvarint(b, uint64(e.stored))
		pgno = e.pgno
	}
	for _, e := range r.tables {
		b = binary.AppendUvarint(b, e.delay)
		b = binary.AppendUvarint(b, uint64(e.stored))
	}
	return b
}

func bitIf(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

// appendState appends what a transaction left behind.
func appendState(b []byte, t wal.TxnInfo) []byte {
	b = binary.AppendUvarint(b, uint64(t.Size))
	b = binary.AppendUvarint(b, uint64(t.Pages))
	return binary.BigEndian.AppendUint64(b, uint64(t.Checksum))
}

func (f *fields) state(t *wal.TxnInfo) {
	t.Size = wal.Pgno(f.uvarint(math.MaxUint32))
	t.Pages = wal.Pgno(f.uvarint(math.MaxUint32))
	t.Checksum = wal.Checksum(f.uint64())
}

// parseRoot decodes the root block of an object in which the root begins at
// end. It accepts exactly what root.append writes.
func parseRoot(b []byte, end int64) (*root, bool) {
	f := &fields{b: b}
	r := &root{}
	flags := f.info(&r.Info)
	if flags&flagLog != 0 {
		r.Mark.Log = wal.Position{
			Salt1: f.uint32(), Salt2: f.uint32(),
			Frames:   uint32(f.uvarint(math.MaxUint32)),
			Sum:      [2]uint32{f.uint32(), f.uint32()},
			PageSize: r.PageSize, BigEndian: flags&flagBigEndian != 0,
		}
	}
	if r.Kind == Map {
		f.mapRoot(r, end)
		return r, f.done()
	}
	at := f.indexEntries(r, end)
	at = f.tableEntries(r, at, end)
	if at != end {
		f.fail()
	}
	return r, f.done()
}

// info takes everything in front of the log position.
func (f *fields) info(r *Info) (flags byte) {
	r.Kind = Kind(f.byte())
	size := f.byte()
	flags = f.byte()
	if size < 9 || size > 16 || r.Kind < Segment || r.Kind > Map || flags&^flagsKnown != 0 ||
		flags&flagLog == 0 && flags&flagBigEndian != 0 || flags&flagFuzzy != 0 && r.Kind != Snapshot || flags&flagLog != 0 && r.Kind == Map || flags&flagThinned != 0 && r.Kind != Segment {
		f.fail()
		return 0
	}
	r.PageSize, r.Fuzzy, r.Shrinks = 1<<size, flags&flagFuzzy != 0, flags&flagShrinks != 0
	r.Thinned = flags&flagThinned != 0
	r.First.ID = wal.TXID(f.uvarint(uint64(wal.MaxTXID)))
	r.First.Time = wal.Time(f.uint64())
	f.state(&r.First)
	r.Txns = int(f.uvarint(maxTxns))
	r.Last = r.First
	if r.Txns > 1 {
		r.Last.ID += wal.TXID(r.Txns - 1)
		r.Last.Time += wal.Time(f.uvarint(math.MaxInt64))
		f.state(&r.Last)
	}
	r.Versions = int64(f.uvarint(math.MaxInt64))
	if r.Versions > 0 {
		r.MinPgno = wal.Pgno(f.uvarint(math.MaxUint32))
		r.MaxPgno = r.MinPgno + wal.Pgno(f.uvarint(math.MaxUint32))
	}
	r.Mark = wal.Mark{Txn: r.Last, PageSize: r.PageSize}
	if r.First.ID == 0 || r.Txns == 0 || r.Last.ID > wal.MaxTXID || r.MaxPgno < r.MinPgno ||
		r.Txns > 1 && (r.Last.Time <= r.First.Time || r.Kind != Segment) ||
		r.Versions > 0 && r.MinPgno == 0 || r.Txns == 1 && r.Shrinks {
		f.fail()
	}
	return flags
}

// indexEntries takes the list of index blocks and returns where the last of
// them ends; nothing may end behind end.
func (f *fields) indexEntries(r *root, end int64) int64 {
	n := f.uvarint(uint64(len(f.b)) / 6) // an entry has six numbers
	r.index = make([]indexEntry, 0, n)
	at, versions := int64(headerSize), int64(0)
	last := indexEntry{}
	for range n {
		e := indexEntry{
			pgno:       last.pgno + wal.Pgno(f.uvarint(uint64(math.MaxUint32-last.pgno))),
			txid:       r.First.ID + wal.TXID(f.uvarint(uint64(r.Txns)-1)),
			groups:     int(f.uvarint(math.MaxInt32)),
			keys:       int(f.uvarint(math.MaxInt32)),
			bytes:      int64(f.uvarint(uint64(end))),
			stored:     int(f.uvarint(maxMeta)),
			firstGroup: r.groups, groupsAt: at,
		}
		e.first = r.key(e.pgno, e.txid)
		at += e.bytes
		versions += int64(e.keys)
		if f.bad || at > end || e.groups == 0 || e.keys < e.groups || e.stored == 0 || e.pgno == 0 ||
			len(r.index) > 0 && e.first <= last.first || r.groups > math.MaxInt32 {
			f.fail()
			return 0
		}
		r.groups += e.groups
		r.index = append(r.index, e)
		last = e
	}
	for i := range r.index {
		r.index[i].at = at
		at += int64(r.index[i].stored)
	}
	if versions != r.Versions || n > 0 && r.index[0].pgno != r.MinPgno || last.pgno > r.MaxPgno {
		f.fail()
	}
	return at
}

// tableEntries takes the list of the table's blocks, which lie from at on, and
// returns where the last of them ends.
func (f *fields) tableEntries(r *root, at, end int64) int64 {
	n := tableCount(r.Txns)
	if f.bad || n > len(f.b)/2 {
		f.fail()
		return at
	}
	r.tables = make([]tableEntry, n)
	for i := range r.tables {
		e := &r.tables[i]
		e.delay, e.stored, e.at = f.uvarint(uint64(r.Last.Time-r.First.Time)), int(f.uvarint(maxMeta)), at
		at += int64(e.stored)
		if at > end || e.stored == 0 || i == 0 && e.delay != 0 || i > 0 && e.delay <= r.tables[i-1].delay {
			f.fail()
			return at
		}
	}
	return at
}
