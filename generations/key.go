package generations

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// ObjectKind says what an object is.
type ObjectKind byte

const (
	ManifestObject ObjectKind = iota + 1 // generation.json
	SnapshotObject                       // snapshot/<first>.snap
	SegmentObject                        // wal/<first>.wal, or wal/<first>-<last>.wal when merged
	PieceObject                          // wal/<first>-<last>.piece, in a spool only
	EditionObject                        // edition/<first>.json
)

// Names within a generation.
const (
	generationsDir = "generations"
	manifestName   = "generation.json"
	snapshotDir    = "snapshot"
	walDir         = "wal"
	editionDir     = "edition"
	snapshotExt    = ".snap"
	segmentExt     = ".wal"
	pieceExt       = ".piece"
	editionExt     = ".json"
	txidDigits     = 10
)

// Object names one object of a client. It is comparable.
type Object struct {
	Client     string
	Generation ID
	Kind       ObjectKind
	First      wal.TXID // zero for a manifest; of an edition, its number
	Last       wal.TXID // of merged segments and pieces only, else zero
	Pruning    ID       // which pruning made the snapshot or segment, zero for all others
}

// Key returns where o is stored, below the root of the store.
func (o Object) Key() string {
	return generationPrefix(o.Client, o.Generation) + o.name()
}

// Place returns o as the packs know it.
func (o Object) Place() pack.Place {
	return pack.Place{Generation: o.Generation.String(), Name: o.name()}
}

// KeyAt returns the key of the object of a client at a place.
func KeyAt(client string, p pack.Place) string {
	return clientPrefix(client) + p.Generation + "/" + p.Name
}

// objectNamed returns the object of a client's generation with a key below it.
func objectNamed(client string, g ID, name string) (Object, bool) {
	return parseKey(generationPrefix(client, g) + name)
}

// name returns o's key below its generation.
func (o Object) name() string {
	switch {
	case o.Kind == ManifestObject:
		return manifestName
	case o.Kind == EditionObject:
		return fmt.Sprintf("%s/%010d%s", editionDir, o.First, editionExt)
	case o.Kind == SnapshotObject && o.Pruning != 0:
		return fmt.Sprintf("%s/%010d.%s%s", snapshotDir, o.First, o.Pruning, snapshotExt)
	case o.Kind == SegmentObject && o.Pruning != 0:
		return fmt.Sprintf("%s/%010d-%010d.%s%s", walDir, o.First, o.Last, o.Pruning, segmentExt)
	case o.Kind == SnapshotObject:
		return fmt.Sprintf("%s/%010d%s", snapshotDir, o.First, snapshotExt)
	case o.Kind == PieceObject:
		return fmt.Sprintf("%s/%010d-%010d%s", walDir, o.First, o.Last, pieceExt)
	case o.Kind == SegmentObject && o.Last == 0:
		return fmt.Sprintf("%s/%010d%s", walDir, o.First, segmentExt)
	case o.Kind == SegmentObject:
		return fmt.Sprintf("%s/%010d-%010d%s", walDir, o.First, o.Last, segmentExt)
	}
	panic(fmt.Sprintf("generations: object of unknown kind %d", o.Kind))
}

// clientPrefix is what the keys of all generations of client begin with.
func clientPrefix(client string) string { return client + "/" + generationsDir + "/" }

// generationPrefix is what the keys of all objects of a generation begin with.
func generationPrefix(client string, g ID) string {
	return clientPrefix(client) + g.String() + "/"
}

// ParseKey is the inverse of Key. It reads from the right, because the name of
// a client may hold slashes and may even end in "generations".
func ParseKey(key string) (Object, error) {
	o, ok := parseKey(key)
	if !ok {
		return Object{}, fmt.Errorf("%q is not the key of a generation's object", key)
	}
	if err := CheckClient(o.Client); err != nil {
		return Object{}, err
	}
	return o, nil
}

func parseKey(key string) (Object, bool) {
	dir, name := cutLast(key)
	var o Object
	var ok bool
	if name == manifestName {
		o.Kind, ok = ManifestObject, true
	} else {
		var kindDir string
		dir, kindDir = cutLast(dir)
		ok = o.parseName(kindDir, name)
	}
	dir, gen := cutLast(dir)
	client, word := cutLast(dir)
	id, err := ParseID(gen)
	o.Client, o.Generation = client, id
	return o, ok && err == nil && word == generationsDir
}

// parseName takes kind and indexes from the last two elements of a key.
func (o *Object) parseName(dir, name string) bool {
	ext := path.Ext(name)
	numbers, pruning, isPruned := strings.Cut(strings.TrimSuffix(name, ext), ".")
	first, last, isRange := strings.Cut(numbers, "-")
	switch {
	case dir == snapshotDir && ext == snapshotExt && !isRange:
		o.Kind = SnapshotObject
	case dir == walDir && ext == segmentExt && (isRange || !isPruned):
		o.Kind = SegmentObject
	case dir == walDir && ext == pieceExt && isRange && !isPruned:
		o.Kind = PieceObject
	case dir == editionDir && ext == editionExt && !isRange && !isPruned:
		o.Kind = EditionObject
	default:
		return false
	}
	if isPruned {
		id, err := ParseID(pruning)
		if err != nil {
			return false
		}
		o.Pruning = id
	}
	var ok bool
	if o.First, ok = parseTXIDName(first); !ok {
		return false
	}
	if isRange {
		o.Last, ok = parseTXIDName(last)
	}
	return ok && (!isRange || o.First <= o.Last)
}

// parseTXIDName parses exactly ten decimal digits.
func parseTXIDName(s string) (wal.TXID, bool) {
	if len(s) != txidDigits || s[0] == '+' {
		return 0, false
	}
	id, err := wal.ParseTXID(s)
	return id, err == nil
}

// cutLast splits s around its last slash.
func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}

// CheckClient says why client cannot be the name of a client: it must be a
// clean relative slash-separated path in UTF-8, and must not look like the
// inside of a generation.
func CheckClient(client string) error {
	if client == "" || !utf8.ValidString(client) || strings.ContainsRune(client, 0) {
		return fmt.Errorf("client %q: want a path in UTF-8", client)
	}
	before := ""
	for e := range strings.SplitSeq(client, "/") {
		if e == "" || e == "." || e == ".." {
			return fmt.Errorf("client %q: want a path without empty, %q or %q elements", client, ".", "..")
		}
		if _, err := ParseID(e); err == nil && before == generationsDir {
			return fmt.Errorf("client %q: a directory named like a generation cannot be captured below one named %q", client, generationsDir)
		}
		before = e
	}
	return nil
}

// DefaultFile is the file name of a database that is called by its directory.
const DefaultFile = "db.sqlite"

// ClientOf returns the client that the database at path is, and its file name:
// "c1/db.sqlite" is "c1", any other database is the client of its own path.
// path is relative to the root of the mount, clean and slash-separated.
func ClientOf(path string) (client, file string) {
	dir, file := cutLast(path)
	if file == DefaultFile && dir != "" {
		return dir, file
	}
	return path, file
}

// PathOf is the inverse of ClientOf. (Of the two paths "db.sqlite" and
// "db.sqlite/db.sqlite", which cannot exist at once, it returns the former.)
func PathOf(client, file string) string {
	if file == DefaultFile && client != DefaultFile {
		return client + "/" + file
	}
	return client
}
