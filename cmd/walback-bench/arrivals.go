package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// arrivals tells when objects appear in a store that is a directory.
type arrivals struct {
	fd      int
	dirs    map[int32]string // watched, by watch descriptor
	shipped func(path string) bool
}

// watchStore watches the store of a side.
func watchStore(dir, sideName string) (*arrivals, error) {
	shipped, ok := map[string]func(string) bool{
		sideWalback:    walback{}.shipped,
		sideLitestream: litestream{}.shipped,
	}[sideName]
	if !ok {
		return nil, fmt.Errorf("nothing is shipped by %q", sideName)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	a := &arrivals{fd: fd, dirs: map[int32]string{}, shipped: shipped}
	if err := a.add(dir); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *arrivals) close() error { return unix.Close(a.fd) }

// add watches dir and the directories below it.
func (a *arrivals) add(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !e.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		wd, err := unix.InotifyAddWatch(a.fd, path, unix.IN_MOVED_TO|unix.IN_CREATE)
		if err != nil {
			return &os.PathError{Op: "inotify", Path: path, Err: err}
		}
		a.dirs[int32(wd)] = path
		return nil
	})
}

// quiet returns when nothing has arrived for a time.
func (a *arrivals) quiet(pause time.Duration) error {
	for until := time.Now().Add(pause); ; {
		n, err := a.wait(time.Until(until))
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		until = time.Now().Add(pause)
	}
}

// next returns when the next object has arrived.
func (a *arrivals) next() (time.Time, error) {
	const late = 30 * time.Second
	n, err := a.wait(late)
	if err == nil && n == 0 {
		err = fmt.Errorf("nothing arrived in the store within %s", late)
	}
	return time.Now(), err
}

// wait returns how many objects arrived, as soon as one has, but after the
// timeout at the latest.
func (a *arrivals) wait(timeout time.Duration) (int, error) {
	for until := time.Now().Add(timeout); ; {
		left := time.Until(until)
		if left <= 0 {
			return 0, nil
		}
		ready := []unix.PollFd{{Fd: int32(a.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, int(left.Milliseconds())+1)
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("inotify: %w", err)
		}
		if n, err := a.read(); n > 0 || err != nil {
			return n, err
		}
	}
}

// read reads the events that are there and returns how many were arrivals.
func (a *arrivals) read() (count int, err error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Read(a.fd, buf)
	if err != nil {
		return 0, fmt.Errorf("inotify: %w", err)
	}
	for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask, length := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])
		name := b[unix.SizeofInotifyEvent:][:length]
		b = b[unix.SizeofInotifyEvent+int(length):]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		path := filepath.Join(a.dirs[wd], string(name))
		switch {
		case mask&unix.IN_ISDIR != 0:
			// What it holds by now is not counted: directories are made long before
			// anything that is waited for.
			if err := a.add(path); err != nil {
				return count, err
			}
		case mask&unix.IN_MOVED_TO != 0 && a.shipped(path):
			count++
		}
	}
	return count, nil
}
