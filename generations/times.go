package generations

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"syscall"

	"github.com/walback/walback/wal"
)

// times remembers when transactions were committed that are appended and not
// saved yet. When this process is killed, another one finds them in the log
// again, every page of them, but not their time. So each leaves a record in a
// small file, which is emptied when they are saved:
//
//	generation, transaction index, time, checksum of the database   8 bytes each
//	CRC-32 of these                                                 4 bytes
//
// The file is not synced, like everything in the spool: a power loss can cost
// times, and a transaction then has that of the restart.
type times struct {
	path string
	file *os.File // open while there are records that this process has written
	end  int64    // of the records, in bytes
	off  bool     // writing failed: no more until all is saved

	// known are the records an earlier process has left, of transactions that
	// were not appended again yet.
	known map[wal.TXID]timeRecord
}

type timeRecord struct {
	generation ID
	time       wal.Time
	checksum   wal.Checksum
}

// timeRecordSize is the length of a record, in bytes.
const timeRecordSize = 4*8 + 4

// load reads what an earlier process has left. A record that is torn or
// damaged is passed over.
func (t *times) load() error {
	b, err := os.ReadFile(t.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	t.known, t.end = parseTimes(b)
	return nil
}

// parseTimes returns the records in b that are intact, and where those end that
// are whole.
func parseTimes(b []byte) (known map[wal.TXID]timeRecord, end int64) {
	known = make(map[wal.TXID]timeRecord)
	for ; len(b) >= timeRecordSize; b = b[timeRecordSize:] {
		end += timeRecordSize
		u64 := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
		if binary.BigEndian.Uint32(b[4*8:]) == crc32.ChecksumIEEE(b[:4*8]) {
			known[wal.TXID(u64(1))] = timeRecord{ID(u64(0)), wal.Time(u64(2)), wal.Checksum(u64(3))}
		}
	}
	return known, end
}

// recall returns when txn was committed, which follows one of the time after
// and may have been appended by an earlier process; otherwise its own time.
func (t *times) recall(g ID, txn wal.TxnInfo, after wal.Time) wal.Time {
	if len(t.known) == 0 {
		return txn.Time
	}
	r, ok := t.known[txn.ID]
	delete(t.known, txn.ID)
	if !ok || r.generation != g || r.checksum != txn.Checksum || r.time <= after {
		t.known = nil // what comes behind is something else too
		return txn.Time
	}
	return r.time
}

// forget drops the records up to a transaction, which is saved.
func (t *times) forget(upTo wal.TXID) {
	maps.DeleteFunc(t.known, func(id wal.TXID, _ timeRecord) bool { return id <= upTo })
}

// note leaves records of txns. After an error it does nothing until all is
// saved.
func (t *times) note(g ID, txns []*wal.Txn) error {
	if t.off || len(txns) == 0 {
		return nil
	}
	err := t.write(g, txns)
	if err != nil {
		t.off = true
		err = fmt.Errorf("spool: %w", err)
	}
	return err
}

func (t *times) write(g ID, txns []*wal.Txn) error {
	if t.file == nil {
		f, err := os.OpenFile(t.path, os.O_WRONLY|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		t.file = f
	}
	b := make([]byte, 0, len(txns)*timeRecordSize)
	for _, txn := range txns {
		b = appendTime(b, g, txn.TxnInfo)
	}
	if _, err := t.file.WriteAt(b, t.end); err != nil {
		return err
	}
	t.end += int64(len(b))
	return nil
}

// appendTime appends the record of txn.
func appendTime(b []byte, g ID, txn wal.TxnInfo) []byte {
	at := len(b)
	for _, v := range []uint64{uint64(g), uint64(txn.ID), uint64(txn.Time), uint64(txn.Checksum)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
}

// retract takes back the record noted last.
func (t *times) retract() error {
	if t.off || t.file == nil || t.end < timeRecordSize {
		return nil
	}
	t.end -= timeRecordSize
	if err := t.file.Truncate(t.end); err != nil {
		t.off = true // what is noted behind it would not be believed
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// saved empties the file: everything that was noted is saved. What has to be
// appended again is not.
func (t *times) saved() error {
	t.off = false
	if t.file == nil || len(t.known) > 0 {
		return nil
	}
	err := errors.Join(t.file.Truncate(0), t.file.Close())
	t.file, t.end = nil, 0
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}
