package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"io"
	"strconv"
	"time"

	"github.com/minio/crc64nvme"
)

// Page sizes SQLite allows, in bytes (SQLite file format §1.3.2). Every size is
// a power of two.
const (
	MinPageSize = 512
	MaxPageSize = 65536
)

// ValidPageSize reports whether n is a page size SQLite can use.
func ValidPageSize(n int) bool {
	return n >= MinPageSize && n <= MaxPageSize && n&(n-1) == 0
}

// TXID numbers the transactions of one database: 1, 2, 3, … without gaps along
// a lineage. Zero is no transaction.
type TXID uint64

// MaxTXID is the largest transaction index that fits the ten digits a key has
// room for.
const MaxTXID TXID = 9_999_999_999

// String returns id in decimal, without padding.
func (id TXID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseTXID parses a decimal transaction index from 1 to MaxTXID; leading
// zeros are allowed.
func ParseTXID(s string) (TXID, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 || TXID(n) > MaxTXID {
		return 0, fmt.Errorf("transaction index %q: want a number from 1 to %d", s, MaxTXID)
	}
	return TXID(n), nil
}

// Pgno is a page number: 1 is the first page of the database. As a size it
// counts pages.
type Pgno uint32

// Time is an instant in microseconds since the Unix epoch, UTC.
type Time int64

// TimeOf returns t as a Time, dropping what is below a microsecond.
func TimeOf(t time.Time) Time { return Time(t.UnixMicro()) }

// Std returns t as a time.Time in UTC.
func (t Time) Std() time.Time { return time.UnixMicro(int64(t)).UTC() }

// String returns t as RFC 3339 in UTC, always with six decimals, so that text
// order is time order.
func (t Time) String() string { return t.Std().Format("2006-01-02T15:04:05.000000Z") }

// Checksum is a CRC-64/NVME of one page, or the XOR of those of all pages of a
// database.
type Checksum uint64

// String returns c as sixteen lower-case hex digits.
func (c Checksum) String() string { return fmt.Sprintf("%016x", uint64(c)) }

// PageSum returns the CRC-64/NVME of the page number (4 bytes, big-endian)
// followed by the page. The checksum of a database is the XOR of PageSum over
// all its pages, so it can be kept up to date page by page.
func PageSum(pgno Pgno, page []byte) Checksum {
	// The number goes through hash/crc64 because b would be allocated if it went
	// to the assembly that the page goes to.
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(pgno))
	return Checksum(crc64nvme.Update(crc64.Update(0, crcTable, b[:]), page))
}

var crcTable = crc64.MakeTable(crc64nvme.NVME)

// TxnInfo is what is known of a transaction without its pages.
type TxnInfo struct {
	ID       TXID
	Time     Time     // strictly increasing along a lineage
	Size     Pgno     // pages in the database after the transaction
	Pages    Pgno     // distinct pages the transaction wrote
	Checksum Checksum // of the whole database after the transaction
}

// Frame says where one version of a page lies.
type Frame struct {
	Pgno Pgno
	Off  int64    // where the page (not its frame header) begins
	Sum  Checksum // PageSum of it
}

// Txn is one committed transaction whose pages still lie where SQLite wrote
// them.
type Txn struct {
	TxnInfo
	PageSize int
	// Frames holds the final version of each page, ascending by page number,
	// none twice, none above Size.
	Frames []Frame
	// Source is where Frame.Off points into.
	Source io.ReaderAt
	// End is the position in the log behind the transaction.
	End Position
}
