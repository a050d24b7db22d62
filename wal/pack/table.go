package pack

import (
	"encoding/binary"
	"math"

	"github.com/walback/walback/wal"
)

// A block of the transaction table holds up to txnsPerTable transactions by
// column: for each, the microseconds since the transaction in front (since the
// pack's first, for the block's first), then for each the zigzag difference of
// its size to that of the one in front (likewise), then for each the pages it
// wrote, then for each its checksum.

// appendTable appends the plaintext of the block for txns; first is the pack's
// first transaction.
func appendTable(b []byte, first wal.TxnInfo, txns []wal.TxnInfo) []byte {
	prev := first
	for _, t := range txns {
		b = binary.AppendUvarint(b, uint64(t.Time-prev.Time))
		prev = t
	}
	prev = first
	for _, t := range txns {
		b = binary.AppendVarint(b, int64(t.Size)-int64(prev.Size))
		prev = t
	}
	for _, t := range txns {
		b = binary.AppendUvarint(b, uint64(t.Pages))
	}
	for _, t := range txns {
		b = binary.BigEndian.AppendUint64(b, uint64(t.Checksum))
	}
	return b
}

// parseTable decodes block n of the transaction table.
func parseTable(r *root, n int, b []byte) ([]wal.TxnInfo, bool) {
	count := min(txnsPerTable, r.Txns-n*txnsPerTable)
	if count > len(b)/11 { // a transaction has three numbers and eight bytes
		return nil, false
	}
	f := &fields{b: b}
	txns := make([]wal.TxnInfo, count)
	prev := r.First
	for i := range txns {
		t := &txns[i]
		t.ID = r.First.ID + wal.TXID(n*txnsPerTable+i)
		t.Time = prev.Time + wal.Time(f.uvarint(uint64(r.Last.Time-prev.Time)))
		if t.Time <= prev.Time && t.ID != r.First.ID {
			return nil, false
		}
		prev = *t
	}
	if txns[0].Time != r.First.Time+wal.Time(r.tables[n].delay) {
		return nil, false
	}
	size := int64(r.First.Size)
	for i := range txns {
		size += f.varint(math.MaxUint32)
		if size < 0 || size > math.MaxUint32 {
			return nil, false
		}
		txns[i].Size = wal.Pgno(size)
	}
	for i := range txns {
		txns[i].Pages = wal.Pgno(f.uvarint(math.MaxUint32))
	}
	for i := range txns {
		txns[i].Checksum = wal.Checksum(f.uint64())
	}
	if !f.done() || n == 0 && txns[0] != r.First || n == len(r.tables)-1 && txns[count-1] != r.Last {
		return nil, false
	}
	return txns, true
}

// shrinks reports whether one of txns is smaller than the one in front of it.
func shrinks(txns []wal.TxnInfo) bool {
	for i := 1; i < len(txns); i++ {
		if txns[i].Size < txns[i-1].Size {
			return true
		}
	}
	return false
}
