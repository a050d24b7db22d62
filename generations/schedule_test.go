package generations_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walback/walback/generations"
)

// While a store takes a second for each object and one database has a backlog for
// longer than the test lasts, two hundred others commit once. They have all the
// uploads but the one that the busy database can have at a time, which it has
// less often than they.
func TestFairness(t *testing.T) {
	defer func() { runtime.GC(); runtime.GC() }() // see TestSavedEarly
	synctest.Test(t, func(t *testing.T) {
		const (
			others  = 200
			uploads = 8  // the default
			backlog = 16 // pieces, for half a second
		)
		m := newMemory()
		r := newRig(t, m, t.TempDir(), time.Second)
		defer r.close()
		databases := make([]*database, 1+others)
		writers := make([]*generations.Writer, 1+others)
		for i := range writers {
			databases[i] = newDatabase(uint64(i), 512)
			w, err := r.shipper.Database(fmt.Sprintf("c%03d", i), "db.sqlite")
			if err != nil {
				t.Fatal(err)
			}
			r.begin(w, databases[i].base(false))
			writers[i] = w
		}
		r.flush()
		var mu sync.Mutex
		var stored []time.Duration // when the others' commits were
		busy := 0                  // objects of the busy one until then
		var start time.Time
		m.hook(func(c call) error {
			if c.op == "put" {
				time.Sleep(time.Second)
			}
			return nil
		}, func(c call) error {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case c.op != "put":
			case !strings.HasPrefix(c.key, "c000"):
				stored = append(stored, time.Since(start))
			case len(stored) < others:
				busy++
			}
			return nil
		})
		// More, whenever a segment could have taken some.
		more := func() {
			for range backlog {
				writers[0].Append(databases[0].commit())
				if err := writers[0].Save(); err != nil {
					t.Fatal(err)
				}
			}
		}
		more()
		start = time.Now()
		for i, w := range writers[1:] {
			w.Append(databases[i+1].commit())
		}
		for done := false; !done; {
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
			mu.Lock()
			done = len(stored) == others
			mu.Unlock()
			if !done {
				more()
			}
		}
		most := time.Duration(others/(uploads-1)+2) * time.Second
		if last := stored[others-1]; last > most {
			t.Errorf("the last of %d commits was in the store after %s, want %s", others, last, most)
		}
		if least := others / uploads / 2; busy < 1 || busy > others/uploads {
			t.Errorf("%d objects of the busy database meanwhile, want about %d", busy, least)
		}
		m.hook(nil, nil)
	})
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
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		if runtime.NumGoroutine() <= goroutines { // those of the last turn, and of what came after it, may still be ending
			return
		}
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
