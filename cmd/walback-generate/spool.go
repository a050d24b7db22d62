package main

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// inMemory is where files cost least: several are made for every commit. What
// becomes of them is brought home in the end.
const inMemory = "/dev/shm"

// spoolPlace returns where the spool of a database of so many bytes is to be while
// the history is made: home, if there is no room in memory.
func spoolPlace(home string, size int64) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(inMemory, &st); err != nil || int64(st.Bavail)*st.Bsize < size {
		return home, nil
	}
	dir, err := os.MkdirTemp(inMemory, "walback-generate-")
	return filepath.Join(dir, "spool"), err
}

// bringHome takes the spool to where a mount will look for it.
func bringHome(spool, home string) error {
	if spool == home {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(home), 0o700)
	if err == nil {
		err = os.CopyFS(home, os.DirFS(spool))
	}
	return errors.Join(err, os.RemoveAll(filepath.Dir(spool)))
}
