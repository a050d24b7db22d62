package live

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
)

// How databases rest is remembered in one file: a line of JSON for each of them,
// and a last line with the CRC-32 of the others. It is written anew whenever it
// has changed, and not synced: without it, or when it is damaged, a mount reads
// the databases.

// recall reads what an earlier mount has remembered.
func (s *set) recall() {
	if s.restFile == "" {
		return
	}
	b, err := os.ReadFile(s.restFile)
	if err == nil {
		s.remembered, err = parseRests(b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.logger.Warn("all databases are read, because how they were left is not known", "error", err)
	}
}

// remember writes how databases rest, those of which the store has everything:
// nothing but their capture would tell that the spool has lost something.
func (s *set) remember() error {
	if s.restFile == "" {
		return nil
	}
	var rests []*rest
	for _, d := range s.below("") {
		d.mu.Lock()
		if d.phase == resting && (d.shipping == nil || d.shipping.Settled()) {
			rests = append(rests, d.rested)
		}
		d.mu.Unlock()
	}
	b, err := encodeRests(rests)
	if err != nil {
		return err
	}
	whole := s.restFile + ".new"
	if err := os.WriteFile(whole, b, 0o600); err != nil {
		return err
	}
	return os.Rename(whole, s.restFile)
}

func (s *set) rememberOrSay() {
	if err := s.remember(); err != nil {
		s.logger.Warn("the next mount will read all databases, because how they were left cannot be remembered", "error", err)
	}
}

func encodeRests(rests []*rest) ([]byte, error) {
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	for _, r := range rests {
		if err := lines.Encode(r); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Path, err)
		}
	}
	return fmt.Appendf(b.Bytes(), "%08x\n", crc32.ChecksumIEEE(b.Bytes())), nil
}

// restSumLine is the length of the last line, in bytes.
const restSumLine = 9

// parseRests is the inverse of encodeRests.
func parseRests(b []byte) (map[string]*rest, error) {
	n := max(0, len(b)-restSumLine)
	lines, sum := b[:n], string(b[n:])
	if want := fmt.Sprintf("%08x\n", crc32.ChecksumIEEE(lines)); sum != want {
		return nil, errors.New("its checksum does not match")
	}
	rests := make(map[string]*rest)
	for line := range bytes.Lines(lines) {
		r := new(rest)
		if err := json.Unmarshal(line, r); err != nil {
			return nil, err
		}
		rests[r.Path] = r
	}
	return rests, nil
}
