package generations

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/walback/walback/wal"
)

// stateFormat is the version of the state file.
const stateFormat = 1

// state is what a spool remembers of a client between runs: the generations
// that are not wholly in the store, oldest first, and the newest one always.
type state struct {
	Format      int        `json:"format"`
	Client      string     `json:"client"`
	Generations []progress `json:"generations"`
}

// progress is how far a generation has come on its way to the store. It is
// written after every object that was put, before what the object holds is
// removed from the spool; so what it lacks is at most the last object put.
type progress struct {
	ID       ID       `json:"id"`
	File     string   `json:"file"`
	PageSize int      `json:"page_size"`
	Base     wal.TXID `json:"base"`             // transaction of the first snapshot, 0 in a fork
	Parent   *Parent  `json:"parent,omitempty"` // what a fork goes on from

	// What the store has.
	Manifest bool     `json:"manifest"`
	Snapshot wal.TXID `json:"snapshot"`  // newest, 0: none yet
	MapBytes int64    `json:"map_bytes"` // what it takes beside pages, when it is a map
	Below    int      `json:"below"`     // in a fork: how many segments its first snapshot would be of, see below
	Segment  string   `json:"segment"`   // key of the newest, "" for none
	Mark     wal.Mark `json:"mark"`      // behind the newest segment, or else the first snapshot or the parent's transaction
}

// statePath returns where the state of client lies. Its name is a hash because
// the name of a client may be longer than a file name can be.
func (s *Spool) statePath(client string) string {
	return filepath.Join(s.stateDir(), clientHash(client)+".json")
}

// timesPath returns where the times of client lie.
func (s *Spool) timesPath(client string) string {
	return filepath.Join(s.timesDir(), clientHash(client))
}

// statesPath returns where the states of client lie.
func (s *Spool) statesPath(client string) string {
	return filepath.Join(s.statesDir(), clientHash(client))
}

func clientHash(client string) string {
	sum := sha256.Sum256([]byte(client))
	return hex.EncodeToString(sum[:16])
}

// loadState returns the state of client, an empty one when there is none.
func (s *Spool) loadState(client string) (state, error) {
	st := state{Format: stateFormat, Client: client}
	path := s.statePath(client)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("spool: %w", err)
	}
	have, err := parseState(b)
	if err != nil {
		return st, tell(errBadState, "spool: %s: %v", path, err)
	}
	if have.Format != stateFormat || have.Client != client {
		return st, tell(errBadState, "spool: %s: format %d of client %q, want format %d of %q", path, have.Format, have.Client, stateFormat, client)
	}
	return have, nil
}

// errBadState tells that a state file is damaged.
var errBadState = errors.New("state file is damaged")

// saveState writes the state of a client.
func (s *Spool) saveState(st state) error {
	b, err := st.encode()
	if err == nil {
		err = s.writeFile(s.statePath(st.Client), b)
	}
	if err != nil {
		return fmt.Errorf("spool: state of %s: %w", st.Client, err)
	}
	return nil
}

// encode returns the content of a state file: JSON, and a last line with its
// CRC-32. A wrong digit would otherwise make another state of it, and so let
// pieces be dropped or transactions get an index again that is taken.
func (st state) encode() ([]byte, error) {
	b, err := json.MarshalIndent(st, "", " ")
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	return fmt.Appendf(b, "%08x\n", crc32.ChecksumIEEE(b)), nil
}

// stateSumLine is the length of the last line of a state file, in bytes.
const stateSumLine = 9

// parseState is the inverse of encode.
func parseState(b []byte) (state, error) {
	n := max(0, len(b)-stateSumLine)
	text, sum := b[:n], string(b[n:])
	if want := fmt.Sprintf("%08x\n", crc32.ChecksumIEEE(text)); sum != want {
		return state{}, errors.New("its checksum does not match")
	}
	var st state
	if err := json.Unmarshal(text, &st); err != nil {
		return state{}, err
	}
	return st, nil
}
