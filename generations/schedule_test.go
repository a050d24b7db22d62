package generations_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walback/walback/generations"
)

// One upload at a time, and one database with a long backlog: others get their
// turn after one object of it.
func TestFairness(t *testing.T) {
	m := newMemory()
	var gate sync.Mutex
	gate.Lock()
	m.hook(func(call) error { gate.Lock(); defer gate.Unlock(); return nil }, nil)
	sp, err := generations.OpenSpool(t.TempDir(), testURL)
	if err != nil {
		t.Fatal(err)
	}
	s := generations.NewShipper(m, sp, generations.ShipperOptions{Uploads: 1, Interval: time.Microsecond})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := sp.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 4 {
		d := newDatabase(uint64(50+i), 512)
		w, err := s.Database(fmt.Sprint("c", i), "db.sqlite")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Begin(d.base(false)); err != nil {
			t.Fatal(err)
		}
		commits := 2
		if i == 0 {
			commits = 500
		}
		for range commits {
			w.Append(d.commit())
			if err := w.Save(); err != nil {
				t.Fatal(err)
			}
		}
	}
	gate.Unlock()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var turns []string
	for _, c := range m.calls {
		if c.op == "put" {
			turns = append(turns, c.key[:2])
		}
	}
	last := slices.Index(turns, "c3") + 8 // its manifest, image and segment in turns of four
	if n := slices.Index(turns[last:], "c3"); n > 1 || strings.Count(strings.Join(turns, " "), "c0") < 8 {
		t.Fatalf("turns %v", turns)
	}
}

// A database without work costs no goroutine, timer or descriptor.
func TestIdleIsFree(t *testing.T) {
	m := newMemory()
	r := newRig(t, m, t.TempDir(), time.Second)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for i := range 100 {
		w, err := r.shipper.Database(fmt.Sprint("c", i), "db.sqlite")
		if err != nil {
			t.Fatal(err)
		}
		d := newDatabase(uint64(i), 512)
		r.begin(w, d.base(false))
		w.Append(d.commit())
	}
	r.flush()
	if n := openFiles(t); n > files {
		t.Errorf("%d descriptors, %d before", n, files)
	}
	for range 1000 { // the last turn's goroutine may still be ending
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
