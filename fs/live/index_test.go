package live

import (
	"os"
	"testing"

	"github.com/walback/walback/wal"
)

// Who looks between the fsync of a commit and the moment at which the wal-index
// tells of it is told a state without it. So the commit is later than that look;
// and otherwise it has the time of its fsync.
func TestTimeOfCommitThatALookMissed(t *testing.T) {
	needPassing(t)
	w := newWorld(t, inGate)
	w.passed = true
	w.begun("a.db", "WAL")
	w.mount()
	c := w.open("a.db", "_synchronous=FULL")
	c.exec("UPDATE t SET b = 'published' WHERE id = 3")
	w.captured("a.db", c)
	w.set.tail.close() // only this test looks
	index, err := os.OpenFile(w.set.root+"/a.db-shm", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer index.Close()
	header := func() []byte {
		b := make([]byte, wal.IndexHeaderSize)
		if _, err := index.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		return b
	}
	put := func(b []byte) {
		if _, err := index.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
	}

	before := header()
	c.exec("UPDATE t SET b = 'synced' WHERE id = 3")
	after := header()
	put(before) // as it was during the fsync
	asked := wal.TimeOf(w.set.now())
	w.set.save("a.db")
	told, _ := w.sink("a.db").last()
	put(after)
	w.captured("a.db", c)
	if s, _ := w.sink("a.db").last(); s.ID != told.ID+1 || s.Time <= asked {
		t.Errorf("at %s the newest transaction was %d, and now it is %d of %s", asked, told.ID, s.ID, s.Time)
	}

	c.exec("UPDATE t SET b = 'nobody looked' WHERE id = 3")
	returned := wal.TimeOf(w.set.now())
	w.captured("a.db", c)
	if s, _ := w.sink("a.db").last(); s.ID != told.ID+2 || s.Time > returned {
		t.Errorf("transaction %d of %s was committed by %s", s.ID, s.Time, returned)
	}
}
