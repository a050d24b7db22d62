package pack

import (
	"encoding/binary"
	"errors"

	"github.com/minio/crc64nvme"
)

// Sealer protects every block of a pack. What it adds must make it notice bytes
// that changed, and bytes that came from another offset or object. Its methods
// are called concurrently.
type Sealer interface {
	// Seal appends the sealed form of block, which will begin at off in the
	// object, to dst. dst may be block[:0].
	Seal(dst, block []byte, place Place, off int64) []byte
	// Open returns the block that sealed holds, possibly a part of sealed,
	// which must not be changed. Any error means that sealed is damaged or was
	// sealed for another place.
	Open(sealed []byte, place Place, off int64) ([]byte, error)
	// Overhead is by how many bytes Seal makes a block longer, at most 64
	// (maxOverhead).
	Overhead() int
}

// Checksummed is the Sealer used where none is named: it appends a CRC-64/NVME
// over the place, the offset and the block.
type Checksummed struct{}

var _ Sealer = Checksummed{}

// maxOverhead is the most that Sealer.Overhead may be.
const maxOverhead = 64

// sumSize is the length of a CRC-64 in bytes.
const sumSize = 8

// errSum becomes part of a CorruptError.
var errSum = errors.New("checksum does not match")

// Seal implements Sealer.
func (Checksummed) Seal(dst, block []byte, place Place, off int64) []byte {
	sum := blockSum(block, place, off)
	return binary.BigEndian.AppendUint64(append(dst, block...), sum)
}

// Open implements Sealer.
func (Checksummed) Open(sealed []byte, place Place, off int64) ([]byte, error) {
	n := len(sealed) - sumSize
	if n < 0 || binary.BigEndian.Uint64(sealed[n:]) != blockSum(sealed[:n], place, off) {
		return nil, errSum
	}
	return sealed[:n], nil
}

// Overhead implements Sealer.
func (Checksummed) Overhead() int { return sumSize }

// blockSum is the checksum of a block: CRC-64/NVME of the generation, a zero
// byte, the name, a zero byte, the offset (8 bytes, big-endian) and the block.
func blockSum(block []byte, place Place, off int64) uint64 {
	b := make([]byte, 0, 128)
	b = append(append(b, place.Generation...), 0)
	b = append(append(b, place.Name...), 0)
	b = binary.BigEndian.AppendUint64(b, uint64(off))
	return crc64nvme.Update(crc64nvme.Checksum(b), block)
}
