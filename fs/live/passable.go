package live

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// Passable implements watcher. What is done to a database in WAL mode its log
// tells.
//
// As long as the log is empty, SQLite asks for the size of the file at each read
// transaction, and of a passed file the kernel forgets that with each read: asking
// the daemon takes longer than the transaction. A file that is not passed has its
// size and content cached, but a checkpoint is a request for each page. So what is
// first opened to be read, and seems to be written by nobody, is not passed.
func (s *set) Passable(path string, fd, flags int) bool {
	switch roleOf(path) {
	case roleLog, roleIndex:
		return true
	case rolePlain:
		header, err := readHeader(backingFile(fd))
		if err != nil || !header.WAL() {
			return false
		}
		return flags&unix.O_ACCMODE != unix.O_RDONLY || s.isWritten(path)
	}
	return false
}

// writtenLately is how long ago somebody has committed to a database of which it is
// to be expected that somebody will again.
const writtenLately = time.Hour

// isWritten reports whether there is somebody who writes to the database at path,
// or was lately, as far as one can tell; or its log is not empty.
func (s *set) isWritten(path string) bool {
	d := s.known(path)
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if st, err := os.Stat(d.logFile()); err == nil && st.Size() > wal.HeaderSize {
		return true
	}
	return d.last.ID > d.imaged && s.now().Sub(d.last.Time.Std()) < writtenLately
}

// backingFile reads the backing file that is open as a descriptor.
type backingFile int

// ReadAt implements io.ReaderAt.
func (fd backingFile) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		got, err := unix.Pread(int(fd), p[n:], off+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return n, err
		case got == 0:
			return n, io.EOF
		}
		n += max(got, 0)
	}
	return n, nil
}
