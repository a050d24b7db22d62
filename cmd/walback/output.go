package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// output is a file being written under a temporary name beside its place, which
// it takes whole or not at all.
type output struct {
	file *os.File
	name string // its place
	temp string // its name until then; "" once it is there

	written int64
	started int64 // up to where the disk has been told to write
}

// outputStep is after how many bytes the disk is told to write what it has of an
// output, so that syncing it at the end is waiting for the rest only.
const outputStep = 8 << 20

// reserve takes the space for size bytes at once: a disk without room for the
// output is better known before it is full. Where the filesystem cannot do that,
// it does nothing.
func (o *output) reserve(size int64) error {
	if size == 0 {
		return nil
	}
	err := unix.Fallocate(int(o.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make room for %s (%s): %w", o.name, bytesText(size), err)
	}
	return nil
}

// Write appends to the file.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	o.written += int64(n)
	if err == nil && o.written-o.started >= outputStep {
		// Sync tells whether it was written; without this it only takes longer.
		_ = unix.SyncFileRange(int(o.file.Fd()), o.started, o.written-o.started, unix.SYNC_FILE_RANGE_WRITE)
		o.started = o.written
	}
	return n, err
}

// companions are the files SQLite would play into a database it finds beside
// them, whichever database they were made for.
func companions(name string) []string {
	return []string{name + "-journal", name + "-wal", name + "-shm"}
}

// mayWrite says why a database cannot be written to name.
func mayWrite(name string, force bool) error {
	info, err := os.Lstat(name)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a directory: name a file", name)
	case err == nil && !force:
		return fmt.Errorf("%s exists and is kept: name another file, or say -force to replace it", name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for _, c := range companions(name) {
		if _, err := os.Lstat(c); err == nil && !force {
			return fmt.Errorf("%s exists and would be taken for part of the restored database: move it away, or say -force to remove it", c)
		}
	}
	return nil
}

// createOutput begins a file that shall become name.
func createOutput(name string) (*output, error) {
	temp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+rand.Text()[:8]+".part")
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	return &output{file: f, name: name, temp: temp}, nil
}

// commit makes the file durable and gives it its name. Without force it takes
// no name that is taken, also not one that was taken meanwhile.
func (o *output) commit(force bool) error {
	if err := o.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", o.temp, err)
	}
	if err := o.file.Close(); err != nil {
		return fmt.Errorf("close %s: %w", o.temp, err)
	}
	if err := o.rename(force); err != nil {
		return err
	}
	o.temp = ""
	dir, err := os.Open(filepath.Dir(o.name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (o *output) rename(force bool) error {
	if !force {
		err := unix.Renameat2(unix.AT_FDCWD, o.temp, unix.AT_FDCWD, o.name, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
			// Not every filesystem knows the flag; a link does not replace either.
			if err = os.Link(o.temp, o.name); err == nil {
				err = os.Remove(o.temp)
			}
		}
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s has appeared meanwhile and is kept: name another file, or say -force to replace it", o.name)
		}
		return err
	}
	for _, c := range companions(o.name) {
		if err := os.Remove(c); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Rename(o.temp, o.name)
}

// discard removes what is not in its place.
func (o *output) discard() {
	if o.temp == "" {
		return
	}
	// Nothing more can be done about a temporary file that will not go away, and
	// why it is discarded has been said.
	_ = o.file.Close()
	_ = os.Remove(o.temp)
}
