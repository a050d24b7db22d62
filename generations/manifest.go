package generations

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/walback/walback/wal"
)

// manifestFormat is the version of the stored layout as a whole.
const manifestFormat = 1

// Manifest is what generation.json holds.
type Manifest struct {
	Format   int      // of the generation's objects, 1
	File     string   // the database's own file name
	PageSize int      // bytes
	Created  wal.Time // of the first transaction
	Parent   *Parent  // nil: the generation begins with an image of its own
	Writer   string   // whose spool it came from; tells writers apart, no more
	Key      []byte   // wrapped data key; empty: not encrypted
}

// Parent is the transaction that a forked generation goes on from.
type Parent struct {
	Generation ID       `json:"generation"`
	Txn        wal.TXID `json:"transaction"`
}

// manifestJSON is a Manifest as it is written: times as text.
type manifestJSON struct {
	Format   int     `json:"format"`
	File     string  `json:"file"`
	PageSize int     `json:"page_size"`
	Created  string  `json:"created"`
	Parent   *Parent `json:"parent,omitempty"`
	Writer   string  `json:"writer"`
	Key      []byte  `json:"key,omitempty"`
}

// Encode returns the bytes of generation.json.
func (m Manifest) Encode() []byte {
	b, err := json.MarshalIndent(manifestJSON{
		Format: m.Format, File: m.File, PageSize: m.PageSize, Created: m.Created.String(),
		Parent: m.Parent, Writer: m.Writer, Key: m.Key,
	}, "", "  ")
	if err != nil {
		panic("generations: manifest does not encode: " + err.Error())
	}
	return append(b, '\n')
}

// ParseManifest reads generation.json. Fields it does not know are passed over,
// but a format it does not know is an error.
func ParseManifest(b []byte) (Manifest, error) {
	var j manifestJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", manifestName, err)
	}
	if j.Format != manifestFormat {
		return Manifest{}, fmt.Errorf("%s: format %d is not known to this walback; a newer one may read it", manifestName, j.Format)
	}
	created, err := time.Parse(time.RFC3339Nano, j.Created)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: created %q: want RFC 3339", manifestName, j.Created)
	}
	if !wal.ValidPageSize(j.PageSize) {
		return Manifest{}, fmt.Errorf("%s: page size %d is none of SQLite's", manifestName, j.PageSize)
	}
	if j.File == "" || j.File != fileOf(j.File) {
		return Manifest{}, fmt.Errorf("%s: %q is not a file name", manifestName, j.File)
	}
	if j.Parent != nil && (j.Parent.Generation == 0 || j.Parent.Txn == 0) {
		return Manifest{}, fmt.Errorf("%s: parent without generation or transaction", manifestName)
	}
	return Manifest{
		Format: j.Format, File: j.File, PageSize: j.PageSize, Created: wal.TimeOf(created),
		Parent: j.Parent, Writer: j.Writer, Key: j.Key,
	}, nil
}

// fileOf returns name when it can name a file in a directory, else "".
func fileOf(name string) string {
	if _, file := cutLast(name); file != "." && file != ".." {
		return file
	}
	return ""
}
