package live

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// remount unmounts, has done what happens meanwhile, and mounts again. It returns
// how many databases the mount did not take as they were remembered.
func (w *world) remount(meanwhile func()) (compared int) {
	w.t.Helper()
	w.unmount()
	if err := w.set.remember(); err != nil {
		w.t.Fatal(err)
	}
	meanwhile()
	before := w.resumed()
	w.mount()
	return w.resumed() - before
}

// resumed returns how often databases were asked for their past.
func (w *world) resumed() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.sinks {
		r.mu.Lock()
		n += r.resumed
		r.mu.Unlock()
	}
	return n
}

func (w *world) phase(name string) phase {
	w.t.Helper()
	d := w.set.known(name)
	if d == nil {
		w.t.Fatalf("%s is not known", name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.phase
}

// remembering returns a world that relies on the times of files at once: nobody
// gets past the clock's ticks here.
func remembering(t *testing.T) *world {
	w := newWorld(t, inGate)
	w.resting = true
	return w
}

func edit(t *testing.T, name string, do func(f *os.File) error) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(do(f), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// A mount relies on what is remembered of a database as long as nothing has
// happened to its files since, and otherwise compares it.
func TestRestIsRememberedUntilSomethingHappens(t *testing.T) {
	tests := []struct {
		name        string
		meanwhile   func(w *world)
		trusted     bool
		generations int
	}{
		{"nothing", func(w *world) {}, true, 1},
		{"read", func(w *world) { readFile(w.t, w.path("a.db")) }, true, 1},
		{"written, and the times set back", func(w *world) {
			st, err := os.Stat(w.path("a.db"))
			if err != nil {
				w.t.Fatal(err)
			}
			edit(w.t, w.path("a.db"), func(f *os.File) error {
				_, err := f.WriteAt([]byte("damage"), st.Size()-6)
				return err
			})
			if err := os.Chtimes(w.path("a.db"), st.ModTime(), st.ModTime()); err != nil {
				w.t.Fatal(err)
			}
		}, false, 2},
		{"replaced by a copy", func(w *world) {
			w.shell(`cp -p "$1" "$1.copy"; mv "$1.copy" "$1"`, w.path("a.db"))
		}, false, 1},
		{"committed to", func(w *world) { w.sqlite3Shell("a.db", "INSERT INTO t (b) VALUES (1)") }, false, 2},
		{"a log appears", func(w *world) { writeFile(w.t, w.path("a.db-wal"), nil) }, false, 1},
		{"a hot journal appears", func(w *world) {
			header := append([]byte{0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7}, make([]byte, 504)...)
			header[11], header[19], header[22], header[26] = 1, 203, 2, 16 // a record; 203 pages; sectors of 512 and pages of 4096 bytes
			writeFile(w.t, w.path("a.db-journal"), header)
		}, false, 1},
		{"another name", func(w *world) {
			if err := os.Link(w.path("a.db"), w.path("b.db")); err != nil {
				w.t.Fatal(err)
			}
		}, false, 1},
		{"what is remembered is damaged", func(w *world) {
			edit(w.t, w.restFile, func(f *os.File) error {
				_, err := f.WriteAt([]byte("0"), 40)
				return err
			})
		}, false, 1},
		{"what is remembered is lost", func(w *world) {
			if err := os.Remove(w.restFile); err != nil {
				w.t.Fatal(err)
			}
		}, false, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := remembering(t)
			w.begun("a.db", "WAL")
			w.mount()
			compared := w.remount(func() { test.meanwhile(w) })
			if test.trusted && compared > 0 {
				t.Error("the database was compared")
			} else if !test.trusted && compared == 0 && w.phase("a.db") != idle {
				t.Error("the database was not compared")
			}
			c := w.open("a.db", "")
			w.commits("a.db", c, insert)
			if n := len(w.sink("a.db").generations); n != test.generations {
				t.Errorf("%d generations, want %d", n, test.generations)
			}
		})
	}
}

// What was remembered once says nothing about a time after that: of a daemon that
// is killed when more has been committed, the commits are found in the log.
func TestRestIsOldWhenTheDaemonIsKilled(t *testing.T) {
	w := remembering(t)
	w.begun("a.db", "WAL")
	w.mount()
	w.remount(func() {})
	old := readFile(t, w.restFile)
	p, c := w.alone("a.db")
	c.exec("UPDATE t SET b = 'captured' WHERE id = 5")
	w.captured("a.db", c)
	kept := w.sink("a.db").mark()
	c.exec("UPDATE t SET b = 'not saved' WHERE id = 6")
	content := c.serialize()
	p.kill()
	w.unmount()
	w.sink("a.db").rewind(kept) // as if the daemon had been killed
	writeFile(t, w.restFile, old)
	w.mount()
	if err := w.set.save("a.db"); err != nil {
		t.Fatal(err)
	}
	if !w.sink("a.db").holds(content) {
		t.Error("the newest state is not what the log has")
	}
	if n := len(w.sink("a.db").generations); n != 1 {
		t.Errorf("%d generations, want 1", n)
	}
}

// Neither a file that was written to a moment ago is remembered, nor one of which
// something is not in the store.
func TestRestIsRememberedWhenSettled(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(w *world)
	}{
		{"fresh", func(w *world) { w.settleTime = time.Hour }},
		{"not in the store", func(w *world) { w.sink("a.db").unsettled = true }},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := remembering(t)
			test.do(w)
			w.begun("a.db", "WAL")
			w.mount()
			if w.remount(func() {}) == 0 {
				t.Error("the database was not compared")
			}
		})
	}
}

// While it is mounted, a database that nobody uses holds nothing, and whatever is
// done to it next, by handle or by name, is captured.
func TestDatabaseRestsAndWakes(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			w := remembering(t)
			w.begun("a.db", mode)
			before := len(held(t, w.dir)) // what the kernel did not say is closed, when that mount ended
			w.mount()
			rests := func() { w.await("it rests", func() bool { return w.phase("a.db") == resting }) }
			rests()
			w.await("nothing of it is open", func() bool { return len(held(t, w.dir)) <= before })
			if d := w.set.known("a.db"); d.sums != nil || d.tracker != nil || d.sink != nil {
				t.Error("it rests and holds what it was followed with")
			}
			reads := w.said.says("compared")
			for range 3 {
				c := w.open("a.db", "")
				w.commits("a.db", c, insert)
				c.close()
				rests()
			}
			if w.said.says("compared") != reads || len(w.sink("a.db").generations) != 1 {
				t.Error("waking was not going on")
			}
			if said := w.verifyAtRest("a.db"); said != "" {
				t.Errorf("verifying says %s", said)
			}
			rests()
			w.rename("a.db", "b.db", 0)
			c := w.open("b.db", "")
			w.commits("b.db", c, insert)
		})
	}
}

func (w *world) verifyAtRest(name string) string {
	w.set.known(name).wakeToVerify()
	return w.verify(name)
}

// Many databases that nobody has touched cost a mount what it takes to look at
// their files' attributes: none is opened, and no sink.
func TestManyAtRest(t *testing.T) {
	const many = 300
	w := remembering(t)
	w.begun("a.db", "WAL")
	template := readFile(t, w.path("a.db"))
	for i := range many {
		writeFile(t, w.path(fmt.Sprintf("%d.db", i)), template)
	}
	w.mount()
	if n := w.remount(func() {}); n != 0 {
		t.Errorf("%d databases were compared", n)
	}
	for _, st := range w.set.status() {
		if st.Phase != "resting" || st.Last.ID == 0 {
			t.Errorf("%+v", st)
		}
	}
	if n := len(w.set.status()); n != many+1 {
		t.Errorf("%d databases, want %d", n, many+1)
	}
}

// What is remembered is read back as it was, and nothing else is.
func FuzzRests(f *testing.F) {
	line := func(r *rest) []byte {
		b, err := encodeRests([]*rest{r})
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(line(&rest{Path: "a.db"}))
	f.Add(line(&rest{Path: "b/\n.db", stamps: stamps{Log: stamp{Inode: 1, Ctime: -1}}, Verified: time.Unix(1, 2)}))
	f.Add([]byte("00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rests, err := parseRests(b)
		if err != nil {
			return
		}
		for path, r := range rests {
			again, err := encodeRests([]*rest{r})
			if err != nil {
				continue // a year that JSON does not know
			}
			back, err := parseRests(again)
			if err != nil || r.Path != path || len(back) != 1 || !back[path].Verified.Equal(r.Verified) || back[path].Txn != r.Txn || back[path].stamps != r.stamps {
				t.Errorf("%+v is read as %+v: %v", r, back[path], err)
			}
		}
	})
}

// TestResting runs tests of the capture once more with databases that rest
// whenever nobody has them open.
func TestResting(t *testing.T) {
	if *restingFlag || *passedFlag {
		t.Skip("this is that run")
	}
	const capture = "Remount|Journal|Move|Exchange|Link|Guard|Repeated|Come|Somebody|Large|Log"
	cmd := exec.Command(os.Args[0], "-test.run", capture, "-live.resting", "-test.timeout=4m")
	if testing.Short() {
		cmd.Args = append(cmd.Args, "-test.short")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s\n%s", cmd, err, out)
	}
}
