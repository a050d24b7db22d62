package live

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// observer is a watcher that checks its own contract: every gate is left
// again, handles are released once, and nothing comes after that. At every
// gate and afterwards it notes the state of the backing file.
type observer struct {
	root string

	mu     sync.Mutex
	events []event
	errs   []string
	bytes  map[string]int64 // written per path
	open   map[string]int   // handles per path
}

// event is a gate that was passed.
type event struct {
	path          string
	op            gateOp
	before, after string // state of the backing file
}

func (o *observer) start(root string) (watcher, error) {
	o.root, o.bytes, o.open = root, make(map[string]int64), make(map[string]int)
	return o, nil
}

// state describes the backing file: whether it is there, and its size.
func (o *observer) state(path string) string {
	st, err := os.Lstat(filepath.Join(o.root, path))
	if err != nil {
		return "none"
	}
	if st.IsDir() {
		return "dir"
	}
	return fmt.Sprint(st.Size())
}

func (o *observer) fail(format string, args ...any) {
	o.errs = append(o.errs, fmt.Sprintf(format, args...))
}

func (o *observer) Names(bool) func() { return func() {} }

func (o *observer) Gate(path string, op gateOp) func(bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, event{path: path, op: op, before: o.state(path)})
	return func(bool) { o.done(path, op) }
}

// opRename is what the observer notes of both names of a rename.
const opRename gateOp = 100

func (o *observer) Rename(from, to string, exchange bool) func(bool) {
	first, second := o.Gate(min(from, to), opRename), o.Gate(max(from, to), opRename)
	return func(done bool) {
		first(done)
		second(done)
	}
}

func (o *observer) done(path string, op gateOp) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range slices.Backward(o.events) {
		if e := &o.events[i]; e.path == path && e.op == op && e.after == "" {
			e.after = o.state(path)
			return
		}
	}
	o.fail("%s of %s was done without a gate", op, path)
}

func (o *observer) close() error { return nil }

func (o *observer) Passable(path string, fd, flags int) bool { return false }

func (o *observer) Opened(path string, fd int, st *unix.Statx_t, flags int, past bool) (watch, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state(path) == "none" {
		o.fail("Opened(%s), which does not exist", path)
	}
	o.open[path]++
	return &observed{observer: o, path: path}, false
}

func (o *observed) Syncing() {}

// observed is one handle.
type observed struct {
	observer *observer
	path     string
	released bool
}

func (w *observed) live(what string) {
	if w.released {
		w.observer.fail("%s of %s after its release", what, w.path)
	}
}

func (w *observed) Role() role { return roleOf(w.path) }

func (w *observed) Gate(op gateOp) passage {
	over := w.observer.Gate(w.path, op)
	w.observer.mu.Lock()
	defer w.observer.mu.Unlock()
	w.live("Gate")
	return observedPassage{w, over}
}

type observedPassage struct {
	*observed
	over func(bool)
}

func (p observedPassage) Done() { p.over(true) }

func (w *observed) Written(off int64, p []byte) {
	w.observer.mu.Lock()
	defer w.observer.mu.Unlock()
	w.live("Written")
	w.observer.bytes[w.path] += int64(len(p))
	got := make([]byte, len(p))
	f, err := os.Open(filepath.Join(w.observer.root, w.path))
	if err != nil {
		return // removed, but still open
	}
	defer f.Close()
	if _, err := f.ReadAt(got, off); err != nil || string(got) != string(p) {
		w.observer.fail("Written(%s, %d) of %d bytes that are not there: %v", w.path, off, len(p), err)
	}
}

func (w *observed) Released() {
	w.observer.mu.Lock()
	defer w.observer.mu.Unlock()
	w.live("Released")
	w.released = true
	w.observer.open[w.path]--
}

func (o *observer) written(path string) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes[path]
}

func (o *observer) saw(path string, op gateOp) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.events, func(e event) bool { return e.path == path && e.op == op })
}

// take returns the gates passed since the last take.
func (o *observer) take() []event {
	o.mu.Lock()
	defer o.mu.Unlock()
	taken := o.events
	o.events = nil
	return taken
}

// check reports what broke the contract. The mount must be idle.
func (o *observer) check(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.errs {
		t.Error(e)
	}
	for _, e := range o.events {
		if e.after == "" {
			t.Errorf("the gate of %s of %s was not left", e.op, e.path)
		}
	}
	for path, n := range o.open {
		if n != 0 {
			t.Errorf("%s: %d handles were not released", path, n)
		}
	}
}

// Every operation that can lose frames passes its gate while the backing file
// is still as it was, and is done when the gate is left.
func TestGates(t *testing.T) {
	rec := &observer{}
	dir, f := mounted(t, Options{}, rec.start)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"d", "e"} {
		if err := os.Mkdir(at(d), 0755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"db", "db-wal", "db-journal", "d/x"} {
		write(t, at(name), "12345")
	}
	for _, c := range []struct {
		name string
		do   func() error
		want []event
	}{
		{"truncate", func() error { return os.Truncate(at("db"), 3) },
			[]event{{"db", opTruncate, "5", "3"}}},
		{"ftruncate", func() error { return change(at("db-wal"), os.O_RDWR, func(f *os.File) error { return f.Truncate(1) }) },
			[]event{{"db-wal", opTruncate, "5", "1"}}},
		{"O_TRUNC", func() error { return change(at("db"), os.O_RDWR|os.O_TRUNC, nil) },
			[]event{{"db", opTruncate, "3", "0"}}},
		{"write", func() error { return change(at("db"), os.O_RDWR, writeAt("abcdefgh", 0)) },
			[]event{{"db", opWrite, "0", "8"}}},
		{"log header", func() error { return change(at("db-wal"), os.O_RDWR, writeAt("abcd", 0)) },
			[]event{{"db-wal", opLogRestart, "1", "4"}}},
		{"log frame", func() error { return change(at("db-wal"), os.O_RDWR, writeAt("abcd", wal.HeaderSize)) },
			nil},
		{"journal header", func() error { return change(at("db-journal"), os.O_RDWR, writeAt("abcdefgh", 0)) },
			[]event{{"db-journal", opJournal, "5", "8"}}},
		{"fallocate", func() error {
			return change(at("db"), os.O_RDWR, func(f *os.File) error { return unix.Fallocate(int(f.Fd()), 0, 0, 100) })
		}, []event{{"db", opChange, "8", "100"}}},
		{"link", func() error { return os.Link(at("db"), at("a")) },
			[]event{{"a", opLink, "none", "100"}}},
		{"rename", func() error { return os.Rename(at("a"), at("b")) },
			[]event{{"a", opRename, "100", "none"}, {"b", opRename, "none", "100"}}},
		{"rename the other way", func() error { return os.Rename(at("b"), at("a")) },
			[]event{{"a", opRename, "none", "100"}, {"b", opRename, "100", "none"}}},
		{"rename of a directory", func() error { return os.Rename(at("e"), at("c")) },
			[]event{{"c", opRename, "none", "dir"}, {"e", opRename, "dir", "none"}}},
		{"rename that fails", func() error {
			if err := unix.Rename(at("c"), at("d")); err == nil {
				return fmt.Errorf("a directory that is not empty was replaced")
			}
			return nil
		}, []event{{"c", opRename, "dir", "dir"}, {"d", opRename, "dir", "dir"}}},
		{"unlink", func() error { return os.Remove(at("db-wal")) },
			[]event{{"db-wal", opUnlink, "36", "none"}}},
		{"unlink below", func() error { return os.Remove(at("d/x")) },
			[]event{{"d/x", opUnlink, "5", "none"}}},
	} {
		rec.take()
		if err := c.do(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := rec.take(); !slices.Equal(got, c.want) {
			t.Errorf("%s: gates %v, want %v", c.name, got, c.want)
		}
	}
	unmount(t, f)
	rec.check(t)
}

func change(name string, flags int, f func(*os.File) error) error {
	file, err := os.OpenFile(name, flags, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if f == nil {
		return nil
	}
	return f(file)
}

func writeAt(s string, off int64) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.WriteAt([]byte(s), off)
		return err
	}
}

// SQLite's own operations: every byte of the log is told of, every restart of
// it and every checkpoint is gated, and the wal-index never is.
func TestWatchSQLite(t *testing.T) {
	rec := &observer{}
	sqlite := startSQLite(t)
	dir, f := mounted(t, Options{}, rec.start)
	name := filepath.Join(dir, "app.db")
	db := openSQLite(t, sqlite.Client, "file:"+name+"?_journal_mode=WAL")
	db.exec("CREATE TABLE t (a)")
	for range 3 {
		db.exec("INSERT INTO t SELECT randomblob(3000) FROM (VALUES (1),(2),(3),(4),(5))")
		db.exec("PRAGMA wal_checkpoint(RESTART)")
	}
	db.exec("INSERT INTO t VALUES (1)") // restarts the log
	log := read(t, name+"-wal")
	if got := rec.written("app.db-wal"); got < int64(len(log)) {
		t.Errorf("%d bytes of the log were told of, it has %d", got, len(log))
	}
	restarts := 0
	for _, e := range rec.take() {
		if e.op == opLogRestart {
			restarts++
		}
	}
	// One for the first header and one for each checkpoint that was followed by a
	// write.
	if restarts < 4 {
		t.Errorf("%d restarts of the log were gated, want 4", restarts)
	}
	db.exec("PRAGMA wal_checkpoint(TRUNCATE)")
	if !rec.saw("app.db", opWrite) || !rec.saw("app.db", opTruncate) || !rec.saw("app.db-wal", opTruncate) {
		t.Errorf("a checkpoint passed only %v", rec.take())
	}
	db.close()
	if !rec.saw("app.db-wal", opUnlink) {
		t.Error("the last close removed the log ungated")
	}
	unmount(t, f)
	rec.check(t)
}
