package live

import "golang.org/x/sys/unix"

// A watcher is told what the application does to files that may belong to a
// database, and is waited for where it has to be first. Paths are
// slash-separated and relative to the root of the mount. Every method may be
// called concurrently, never with a lock of the tree held, and none can fail
// the application's operation.
//
// Operations by name (unlink, rename, link, truncate(2)) go through the watcher.
// Operations on an open file go through its watch, so that a write costs no
// lookup.
type watcher interface {
	// Names is called before a path is looked up that the watcher is to be told
	// of, and what it returns is called when that is over. Meanwhile no file gets
	// another path. Whoever changes paths says so, and is alone.
	Names(changing bool) (over func())

	// Passable reports whether nothing is lost when the file path, which is open
	// as fd with the flags of open(2), is read and written past the daemon, and it
	// is worth it. The first handle of a file decides for all.
	Passable(path string, fd, flags int) bool

	// Opened tells that the application has opened or created the regular file
	// path, before it gets to use it: fd is the backing file, which had the
	// attributes st, and flags are those of open(2). It returns who watches this
	// handle, or nil when nobody cares about any operation on it, now or later: a
	// file that is no database yet may become one while it is open. It is true
	// besides when somebody has changed the file behind the mount's back, so that
	// what the kernel knows of it, and of those beside it, is old. When the file is
	// read and written past the daemon, writes are not told of. It is not called
	// for files without a name (O_TMPFILE).
	Opened(path string, fd int, st *unix.Statx_t, flags int, past bool) (w watch, changed bool)

	// Gate is called before op, which is no rename, is done to the name path and
	// returns when that is safe. What it returns is called from the same goroutine
	// when op was done, or has failed.
	Gate(path string, op gateOp) (over func(done bool))

	// Rename is Gate for giving what is called from the name to, in an exchange
	// the other way round as well. They may be directories, which may hold databases.
	Rename(from, to string, exchange bool) (over func(done bool))

	// close saves what was seen and lets go of the backing files. Nothing is
	// served any more. Closing again does nothing.
	close() error
}

// A watch is one open file as the watcher sees it. It outlives the name it was
// opened under: its operations are always those of the file that was opened,
// whatever that is called by then, if anything.
type watch interface {
	// Role is what the file is now, by its name.
	Role() role
	// Gate is called before op is done to the file and returns when that is safe.
	Gate(op gateOp) passage
	// Written follows every successful write to the file that had no gate: p is
	// what is now at off (bytes). It is valid only during the call.
	Written(off int64, p []byte)
	// Syncing is called before an fsync of a file that is written past the daemon.
	Syncing()
	// Released is called once for each Opened that returned the watch, when that
	// handle is closed. No call of that handle comes after it. It does not come
	// for handles that were still open when the daemon was forced off the mount.
	Released()
}

// A passage is an operation on an open file that has passed its gate.
type passage interface {
	// Written is Written of the watch.
	Written(off int64, p []byte)
	// Done follows every Gate, from the same goroutine, when the operation was done
	// or has failed.
	Done()
}

// gateOp is an operation that may take away what the watcher has not seen yet.
type gateOp uint8

const (
	// opTruncate sets the size: ftruncate, truncate, O_TRUNC of open and create.
	opTruncate gateOp = iota + 1
	// opUnlink removes a name.
	opUnlink
	// opLink adds a name; the new one is gated.
	opLink
	// opLogRestart is a write to a *-wal that begins within its header.
	opLogRestart
	// opJournal is a write at the beginning of a *-journal: its header, or the
	// zeros that commit in PERSIST mode.
	opJournal
	// opWrite is a write to a file that is neither a log nor a journal, so maybe
	// a database.
	opWrite
	// opChange changes the content of any file in a way that Written does not
	// tell: fallocate, copy_file_range.
	opChange
)

func (op gateOp) String() string {
	switch op {
	case opTruncate:
		return "truncate"
	case opUnlink:
		return "unlink"
	case opLink:
		return "link"
	case opLogRestart:
		return "log restart"
	case opJournal:
		return "journal header"
	case opWrite:
		return "write"
	case opChange:
		return "change"
	}
	return "unknown operation"
}
