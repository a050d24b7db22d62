package generations

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// newWriterName returns sixteen random hex digits.
func newWriterName() string {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// spoolFile is a file being written in the spool. Either keep or drop ends it.
type spoolFile struct {
	*os.File
	spool *Spool
}

// create begins a file.
func (s *Spool) create() (*spoolFile, error) {
	f, err := os.CreateTemp(s.tmpDir(), "")
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return &spoolFile{f, s}, nil
}

// sparing is a file that grows only as long as its filesystem has space to spare.
type sparing struct {
	*spoolFile
	written, admitted int64 // bytes
}

// Write implements io.Writer.
func (f *sparing) Write(p []byte) (int, error) {
	if f.written+int64(len(p)) > f.admitted {
		if err := f.spool.spare(spareEvery); err != nil {
			return 0, err
		}
		f.admitted = f.written + spareEvery
	}
	n, err := f.File.Write(p)
	f.written += int64(n)
	return n, err
}

// keep makes the file the object with the given key.
func (f *spoolFile) keep(key string) error { return f.keepAs(f.spool.objectPath(key)) }

// keepAs makes the file the one at path.
func (f *spoolFile) keepAs(path string) error {
	err := f.Close()
	if err == nil {
		err = f.spool.rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name()) // the first error is the one to tell
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// drop throws the file away.
func (f *spoolFile) drop() error {
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// rename moves a finished file to path, whose directories may come and go
// meanwhile: remove takes empty ones away.
func (s *Spool) rename(from, path string) error {
	for {
		err := os.Rename(from, path)
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, gone := os.Lstat(from); gone != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// writeFile puts b into the file at path, replacing it whole.
func (s *Spool) writeFile(path string, b []byte) error {
	f, err := s.create()
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		f.drop() // the first error is the one to tell
		return err
	}
	err = f.Close()
	if err == nil {
		err = s.rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// put stores b as the object with the given key.
func (s *Spool) put(key string, b []byte) error {
	if err := s.writeFile(s.objectPath(key), b); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// remove removes an object. One that is not there is no error.
func (s *Spool) remove(key string) error {
	if o, err := ParseKey(key); err == nil && o.Kind == PieceObject {
		if removed, err := s.removeRaw(o.Client, key); removed || err != nil {
			return err
		}
	}
	if err := os.Remove(s.objectPath(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// prune removes the directories of a generation that are empty, and those above
// them. While a generation is being written they are kept, though nothing may
// be in them.
func (s *Spool) prune(client string, g ID) {
	generation := s.objectPath(generationPrefix(client, g))
	for _, d := range []string{walDir, snapshotDir} {
		syscall.Rmdir(filepath.Join(generation, d)) // fails where something is in it
	}
	for dir := generation; dir != s.objectsDir(); dir = filepath.Dir(dir) {
		if err := syscall.Rmdir(dir); err != nil && err != syscall.ENOENT {
			return
		}
	}
}
