package snapshot

import "io"

// The file format version numbers for writing and reading, one byte each: 1 is
// a rollback journal, 2 a write-ahead log (SQLite file format §1.3.3).
const (
	versionsAt = 18
	versions   = 2
	journal    = 1
)

// ReadOnly returns the database file as stock SQLite can open it read-only
// without a log beside it: page 1 says that it uses a rollback journal. This is
// the only place that changes a byte of a view.
func ReadOnly(v *View) io.ReaderAt { return readOnly{v} }

type readOnly struct{ v *View }

func (r readOnly) ReadAt(b []byte, off int64) (int, error) {
	n, err := r.v.ReadAt(b, off)
	for i := int64(versionsAt); i < versionsAt+versions; i++ {
		if at := i - off; at >= 0 && at < int64(n) {
			b[at] = journal
		}
	}
	return n, err
}
