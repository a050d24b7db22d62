package generations

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/walback/walback/wal"
)

// ID names a generation. Its order is creation order: the upper 52 bits are
// the microsecond of its creation, the lower 12 are random. Zero is none.
type ID uint64

// idRandomBits are below the time in an ID.
const idRandomBits = 12

// NewID returns an ID for a generation created at now that is greater than
// after, also when the clock stepped back.
func NewID(now wal.Time, after ID) ID {
	id := ID(max(now, 0))<<idRandomBits | ID(rand.Uint64N(1<<idRandomBits))
	return max(id, after+1)
}

// ParseID parses sixteen lower-case hex digits, not all zero.
func ParseID(s string) (ID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || n == 0 || ID(n).String() != s {
		return 0, fmt.Errorf("generation %q: want sixteen hex digits", s)
	}
	return ID(n), nil
}

// String returns id as sixteen lower-case hex digits.
func (id ID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// Time returns about when the generation was created.
func (id ID) Time() wal.Time { return wal.Time(id >> idRandomBits) }

// MarshalText makes an ID its hex digits in JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseID.
func (id *ID) UnmarshalText(b []byte) error {
	p, err := ParseID(string(b))
	if err == nil {
		*id = p
	}
	return err
}
