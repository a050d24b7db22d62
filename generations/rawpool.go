package generations

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// rawPool are the files of raw pieces. Some that hold none any more are kept, to
// be written over: that takes a third of the time of filling a new one, and
// leaves nothing to an fsync of the database. Gates take files from it: nothing
// that waits for a disk is done under its lock.
type rawPool struct {
	mu   sync.Mutex
	next uint64   // number of the next new file
	free []string // files that hold nothing
	kept int      // those, and those that are being emptied
}

// maxFreeRaw is how many files are kept to be written over.
const maxFreeRaw = 4

// plentyOfSpace is how many bytes must be free on the spool's filesystem for files
// to be kept that hold nothing.
const plentyOfSpace = 1 << 30

// take returns a file that holds nothing, or the number of one that is to be made.
func (p *rawPool) take() (path string, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free)
	if n == 0 {
		p.next++
		return "", p.next
	}
	path, p.free = p.free[n-1], p.free[:n-1]
	p.kept--
	return path, 0
}

// reserve promises a place to a file; false when there are enough.
func (p *rawPool) reserve() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept == maxFreeRaw {
		return false
	}
	p.kept++
	return true
}

// give fills a place that was promised, or gives it back if path is empty.
func (p *rawPool) give(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if path == "" {
		p.kept--
		return
	}
	p.free = append(p.free, path)
}

// createRaw opens a file for a raw piece.
func (s *Spool) createRaw() (*os.File, error) {
	path, number := s.rawFiles.take()
	flags := os.O_RDWR | syscall.O_CLOEXEC
	if path == "" {
		path, flags = filepath.Join(s.rawDir(), strconv.FormatUint(number, 10)), flags|os.O_CREATE|os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return f, nil
}

// giveUp removes the file of a raw piece that nobody reads, or empties it to be
// written over: if the process is killed then, it is found to be none.
func (s *Spool) giveUp(path string) error {
	_, space, err := s.disk()
	if err != nil || space < plentyOfSpace || !s.rawFiles.reserve() {
		return os.Remove(path)
	}
	if err := blank(path); err != nil {
		s.rawFiles.give("")
		return errors.Join(err, os.Remove(path))
	}
	s.rawFiles.give(path)
	return nil
}

// blank makes the file at path begin with nothing.
func blank(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, rawBegin), 0)
	return errors.Join(err, f.Close())
}
