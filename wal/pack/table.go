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

// parseTable decodes a block of count transactions from id on; first is the
// pack's first. It accepts exactly what appendTable writes.
func parseTable(b []byte, first wal.TxnInfo, id wal.TXID, count int) ([]wal.TxnInfo, bool) {
	if count > len(b)/11 { // a transaction has three numbers and eight bytes
		return nil, false
	}
	f := &fields{b: b}
	txns := make([]wal.TxnInfo, count)
	at := first.Time
	for i := range txns {
		delay := f.uvarint(math.MaxInt64)
		if next := at + wal.Time(delay); next > at || i == 0 && delay == 0 {
			at = next
		} else {
			return nil, false
		}
		txns[i].ID, txns[i].Time = id+wal.TXID(i), at
	}
	size := int64(first.Size)
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
	return txns, f.done()
}

// table decodes block n of the transaction table, and compares it with the
// root.
func (r *root) table(n int, b []byte) ([]wal.TxnInfo, bool) {
	id := r.First.ID + wal.TXID(n*txnsPerTable)
	txns, ok := parseTable(b, r.First, id, min(txnsPerTable, r.Txns-n*txnsPerTable))
	if !ok || txns[0].Time != r.tableTime(n) || n == 0 && txns[0] != r.First {
		return nil, false
	}
	last := txns[len(txns)-1]
	if n == len(r.tables)-1 {
		return txns, last == r.Last
	}
	return txns, last.Time < r.tableTime(n+1)
}

// tableTime returns the time of the first transaction of block n of the table.
func (r *root) tableTime(n int) wal.Time { return r.First.Time + wal.Time(r.tables[n].delay) }

// shrinks reports whether one of txns is smaller than the one in front of it.
func shrinks(txns []wal.TxnInfo) bool {
	for i := 1; i < len(txns); i++ {
		if txns[i].Size < txns[i-1].Size {
			return true
		}
	}
	return false
}
