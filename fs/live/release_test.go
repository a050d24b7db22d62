package live

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// slow is a watcher that has files passed when it is told to, and takes its time
// with the release of the first handle.
type slow struct {
	indifferent
	released chan struct{} // one for each
	goOn     chan struct{} // with the first

	mu       sync.Mutex
	passable bool
	passed   []bool // of each handle, in the order in which they were opened
}

func (s *slow) Passable(string, int, int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.passable
}

func (s *slow) Opened(_ string, _ int, _ *unix.Statx_t, _ int, past bool) (watch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed = append(s.passed, past)
	return slowWatch{slow: s, first: len(s.passed) == 1}, false
}

// slowWatch is of a file that nothing but opening and closing is done to.
type slowWatch struct {
	watch
	slow  *slow
	first bool
}

func (w slowWatch) Released() {
	w.slow.released <- struct{}{}
	if w.first {
		<-w.slow.goOn
	}
}

// go-fuse counts the release of a handle that is not passed as that of one that is
// if the file is passed by then: it would take the backing file from those who
// have it open, and the kernel would refuse the next one (EIO). So the file stays
// as it is until go-fuse is through with every release.
func TestReleasedWhileOthersOpen(t *testing.T) {
	needPassing(t)
	s := &slow{released: make(chan struct{}, 3), goOn: make(chan struct{})}
	dir, f := mounted(t, Options{Passthrough: true}, func(string) (watcher, error) { return s, nil })
	open := func() *os.File {
		t.Helper()
		file, err := os.OpenFile(filepath.Join(dir, "a.db"), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() }) // where the test has failed: before the mount ends
		return file
	}
	shut := func(files ...*os.File) {
		t.Helper()
		for _, file := range files {
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	forgotten := func() bool {
		for range f.tree.releasing.Range {
			return false
		}
		return true
	}

	shut(open())
	<-s.released
	s.mu.Lock()
	s.passable = true
	s.mu.Unlock()
	second := open() // while the first is being released
	close(s.goOn)
	await(t, "go-fuse is through with the first", forgotten)
	shut(second, open())
	<-s.released
	<-s.released
	await(t, "go-fuse is through with all of them", forgotten)
	shut(open())
	s.mu.Lock()
	defer s.mu.Unlock()
	if want := []bool{false, false, false, true}; !slices.Equal(s.passed, want) {
		t.Errorf("handles are passed: %v, want %v", s.passed, want)
	}
}
