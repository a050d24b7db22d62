package snapshot

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
)

// slowFile is a memory that takes its time, and refuses a second writer
// meanwhile.
type slowFile struct {
	memory
	busy sync.Mutex
}

var errTwoWriters = errors.New("two writers at a time")

func (f *slowFile) WriteAt(b []byte, off int64) (int, error) {
	if !f.busy.TryLock() {
		return 0, errTwoWriters
	}
	defer f.busy.Unlock()
	for range 100 {
		runtime.Gosched()
	}
	return f.memory.WriteAt(b, off)
}

// TestOneWriter: however many read, one writes. The kernel lets one writer into a
// file and has the others spin: eight of them took three times as long as cp.
func TestOneWriter(t *testing.T) {
	const windows = 16
	l := begin(rand.New(rand.NewPCG(1, 1)), 65536, windows*windowSize/65536)
	v := l.view(t, 0, l.snapshot(t, 0))
	if err := v.CopyTo(t.Context(), &slowFile{memory: make(memory, v.Size())}, CopyOptions{Concurrency: 8}); err != nil {
		t.Error(err)
	}
}
