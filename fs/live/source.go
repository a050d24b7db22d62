package live

import (
	"errors"
	"io"
	"os"

	"github.com/walback/walback/wal"
)

// inFile is added to the offset of a page that lies in the database file and
// not in the log.
const inFile = int64(1) << 62

// source reads pages by offset, of the log or (from inFile on) of the database
// file. Beyond the end of the file a page is zeros.
type source struct {
	log, file io.ReaderAt
}

func (s source) ReadAt(p []byte, off int64) (int, error) {
	if off < inFile {
		return s.log.ReadAt(p, off)
	}
	return readZeroed(s.file, p, off-inFile)
}

// readZeroed fills p from off on, with zeros beyond the end of the file.
func readZeroed(f io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}

// fileFrame says where page p lies in the database file.
func fileFrame(p wal.Pgno, sum wal.Checksum, pageSize int) wal.Frame {
	return wal.Frame{Pgno: p, Off: inFile + int64(p-1)*int64(pageSize), Sum: sum}
}

// databasePages returns how many pages the database in f has when no log lays
// others over it. The file may be longer: SQLite cuts it only after the
// transaction that made it shorter has committed.
func databasePages(f *os.File, header wal.DatabaseHeader) (wal.Pgno, error) {
	if header.SizeValid() {
		return header.Size, nil
	}
	return filePages(f, header.PageSize)
}

// filePages returns how many whole pages f holds.
func filePages(f *os.File, pageSize int) (wal.Pgno, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return wal.Pgno(st.Size() / int64(pageSize)), nil
}
