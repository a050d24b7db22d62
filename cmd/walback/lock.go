package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/generations"
)

// fileLock is something that one mount at a time may have. It is an flock, so
// the kernel lets go of it when the process ends, however it ends. It reaches as
// far as this machine.
type fileLock struct{ file *os.File }

// lockHolder is what a lock file tells about who has the lock.
type lockHolder struct {
	PID int    `json:"pid"`
	Dir string `json:"dir"` // the mountpoint
}

// lockURL keeps other mounts from shipping to u: two that write the same keys
// would fence each other off.
func lockURL(u generations.URL, dir string) (*fileLock, error) {
	runtime := runtimeDir()
	if err := os.MkdirAll(runtime, 0o700); err != nil {
		return nil, fmt.Errorf("the directory for lock files: %w", err)
	}
	// Neither the region nor the style of the requests makes another place of it.
	place := u
	place.Region, place.PathStyle = "", generations.PathStyleAuto
	sum := sha256.Sum256([]byte(place.String()))
	l, holder, err := lockFile(filepath.Join(runtime, hex.EncodeToString(sum[:8])+".lock"), dir)
	if holder != "" {
		return nil, fmt.Errorf("%s belongs to %s: unmount that one, or ship to another URL", u, holder)
	}
	return l, err
}

// lockBacking keeps other mounts from serving the plain files in backing: SQLite
// could not see the locks that it takes through one mount through another.
func lockBacking(backing *os.File, name, dir string) (*fileLock, error) {
	place := filepath.Join("/proc/self/fd", strconv.Itoa(int(backing.Fd())), ".walback")
	if err := os.Mkdir(place, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("making .walback in %s: %w", name, errors.Unwrap(err))
	}
	l, holder, err := lockFile(filepath.Join(place, "mount.lock"), dir)
	if holder != "" {
		return nil, fmt.Errorf("the plain files in %s are being served by %s: unmount that one first", name, holder)
	}
	return l, err
}

// lockFile takes the lock that is the file name, for the mount on dir. If
// another process has it, the error is nil and holder says who.
func lockFile(name, dir string) (l *fileLock, holder string, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, "", fmt.Errorf("lock file: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		var h lockHolder
		if json.NewDecoder(f).Decode(&h) != nil {
			return nil, "another walback mount on this machine", nil
		}
		return nil, fmt.Sprintf("the walback mount on %s (process %d)", h.Dir, h.PID), nil
	}
	var text []byte
	if err == nil {
		text, err = json.Marshal(lockHolder{PID: os.Getpid(), Dir: dir})
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(text, 0)
	}
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("lock file %s: %w", name, err), f.Close())
	}
	return &fileLock{f}, "", nil
}

// Close lets go of the lock. The file stays: removing it could take it from
// under somebody who has just opened it.
func (l *fileLock) Close() error { return l.file.Close() }

// runtimeDir returns the directory for what must not outlive this boot.
func runtimeDir() string {
	if os.Getuid() == 0 {
		return "/run/walback"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "walback")
	}
	return filepath.Join(os.TempDir(), "walback-"+strconv.Itoa(os.Getuid()))
}
