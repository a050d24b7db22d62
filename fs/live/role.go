package live

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// role is what a file may be to a database, by its name.
type role uint8

const (
	rolePlain   role = iota // no name SQLite derives; any of them may be a database
	roleLog                 // *-wal
	roleIndex               // *-shm, the wal-index
	roleJournal             // *-journal
	// roleForeign is a log or journal beside another name of a database than the
	// one that it is followed under.
	roleForeign
)

// logSuffix is what SQLite appends to a database's name for its log.
const logSuffix = "-wal"

// indexSuffix is what it appends for its wal-index.
const indexSuffix = "-shm"

// roleOf returns the role that a file has by its name.
func roleOf(path string) role {
	_, r := partOf(path)
	return r
}

// partOf returns the main file that a file belongs to by its name, and what it
// is of that.
func partOf(path string) (string, role) {
	for _, derived := range derivedNames {
		if base, ok := strings.CutSuffix(path, derived.suffix); ok {
			return base, derived.role
		}
	}
	return path, rolePlain
}

// derivedNames are those of the files that SQLite has beside a database.
var derivedNames = [...]struct {
	suffix string
	role   role
}{{logSuffix, roleLog}, {indexSuffix, roleIndex}, {journalSuffix, roleJournal}}

// writeOp returns what a write at off to a file is to the watcher, and false
// when it need not be asked first.
func writeOp(r role, off int64) (gateOp, bool) {
	switch r {
	case rolePlain:
		return opWrite, true
	case roleLog:
		return opLogRestart, off < wal.HeaderSize
	case roleJournal, roleForeign:
		return opJournal, off == 0
	}
	return 0, false
}

// isMissing reports whether err says that there is no such file. There is none
// beside a database whose own name is as long as a name can be.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENAMETOOLONG)
}
