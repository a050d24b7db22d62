package live

import (
	"bytes"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
)

// verify verifies a database now and returns what was said of it as an error.
func (w *world) verify(name string) string {
	w.t.Helper()
	var said bytes.Buffer
	logger := w.set.logger
	w.set.logger = slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelError}))
	w.set.known(name).verify(w.t.Context(), math.MaxInt)
	if err := w.set.settle(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.set.logger = logger
	return said.String()
}

// A page that is not as it was captured is reported, and a new generation has
// what is there.
func TestVerifyFindsWhatIsNotCaptured(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, inGate)
			w.begun("a.db", mode)
			w.mount()
			c := w.open("a.db", "")
			c.exec("PRAGMA wal_checkpoint")
			c.exec("UPDATE t SET b = zeroblob(3500) WHERE id = 5") // lies in the log
			w.captured("a.db", c)
			if said := w.verify("a.db"); said != "" {
				t.Fatalf("nothing is wrong, and verifying says %s", said)
			}
			if n := len(w.sink("a.db").generations); n != 1 {
				t.Fatalf("verifying began %d generations", n)
			}
			w.damage("a.db", 150)
			if said := w.verify("a.db"); !strings.Contains(said, "not what was captured") {
				t.Fatalf("verifying says %q", said)
			}
			w.forked("a.db", 2, 1)
			file, err := os.ReadFile(w.set.root + "/a.db") // the kernel has the page cached
			if err != nil {
				t.Fatal(err)
			}
			page := w.sink("a.db").current().pages[149*4096:][:4096]
			if !bytes.Equal(page, file[149*4096:][:4096]) {
				t.Error("the new generation does not have what is there")
			}
			if said := w.verify("a.db"); said != "" {
				t.Errorf("after that, verifying says %s", said)
			}
		})
	}
}

// damage writes over a page past the mount.
func (w *world) damage(name string, page int64) {
	w.t.Helper()
	f, err := os.OpenFile(w.set.root+"/"+name, os.O_RDWR, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), (page-1)*4096+100); err != nil {
		w.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// Verifying while the database is written to and checkpointed finds nothing.
func TestVerifyWhileWritten(t *testing.T) {
	for _, mode := range []string{"WAL", "TRUNCATE", "MEMORY"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, inGate)
			w.begun("a.db")
			w.mount()
			c := w.open("a.db", "")
			c.exec("PRAGMA journal_mode=" + mode) // MEMORY is of the connection
			c.exec("PRAGMA wal_autocheckpoint=7")
			var writing sync.WaitGroup
			writing.Go(func() {
				for i := range 20 {
					c.exec("UPDATE t SET b = randomblob(3500) WHERE id % 50 = ?", i)
				}
			})
			done := make(chan struct{})
			go func() { writing.Wait(); close(done) }()
			for rounds := 0; ; rounds++ {
				select {
				case <-done:
					if rounds == 0 {
						t.Error("nothing was verified meanwhile")
					}
					if n := len(w.sink("a.db").generations); n != 1 {
						t.Errorf("verifying began %d generations", n)
					}
					return
				default:
				}
				w.set.known("a.db").verify(t.Context(), math.MaxInt)
			}
		})
	}
}
