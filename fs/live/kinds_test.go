package live

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// These tests go through the kinds of files, names and ways of access that a
// database may have. docs/capture.md lists them.

func (w *world) shell(script string, args ...string) string {
	w.t.Helper()
	out, err := exec.Command("sh", append([]string{"-ec", script, "sh"}, args...)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s %q: %v\n%s", script, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// awaitFile waits until the newest captured state of a database is its file.
func (w *world) awaitFile(name string) {
	w.t.Helper()
	want := readFile(w.t, w.path(name))
	w.await(name+" is captured", func() bool { return w.sink(name).holds(want) })
}

// A database opened through a symbolic link is the one that the link leads to.
func TestSymbolicLinks(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, inGate)
			outside := filepath.Join(t.TempDir(), "outside.db")
			w.mount()
			w.mkdir("real")
			for link, to := range map[string]string{
				w.path("file.db"):    "real/a.db",
				w.path("dir"):        "real",
				w.path("outside.db"): outside,
				outside + ".link":    w.path("real/a.db"),
			} {
				if err := os.Symlink(to, link); err != nil {
					t.Fatal(err)
				}
			}
			for i, name := range []string{w.path("real/a.db"), w.path("file.db"), w.path("dir/a.db"), outside + ".link"} {
				c := openSQLite(t, w.sqlite.Client, "file:"+name)
				c.exec("PRAGMA journal_mode=" + mode)
				c.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, b)")
				w.commits("real/a.db", c, insert, insert)
				if n := c.query("SELECT count(*) FROM t"); n != 2*(i+1) {
					t.Errorf("%d rows through %s, want %d", n, name, 2*(i+1))
				}
				c.close()
			}
			w.sqlite3Shell("outside.db", "PRAGMA journal_mode="+mode+"; CREATE TABLE t (x)")
			if _, err := os.Stat(outside); err != nil {
				t.Errorf("a link out of the mount: %v", err)
			}
			w.onlyFollowed("real/a.db")
		})
	}
}

// What may only be read has a past all the same, and is followed as before when it
// may be written again.
func TestReadOnly(t *testing.T) {
	w := newWorld(t, inGate)
	w.shell(`mkdir "$1/d"; sqlite3 "$1/d/a.db" "CREATE TABLE t (id INTEGER PRIMARY KEY, b); INSERT INTO t VALUES (1, 'x')"; chmod 444 "$1/d/a.db"; chmod 555 "$1/d"`, w.dir)
	w.mount()
	w.awaitFile("d/a.db")
	c := w.open("d/a.db", "mode=ro")
	if n := c.query("SELECT count(*) FROM t"); n != 1 {
		t.Errorf("%d rows", n)
	}
	c.close()
	if n := w.sink("d/a.db").count(); n != 1 {
		t.Errorf("%d states of what was only read", n)
	}
	w.shell(`chmod 755 "$1/d"; chmod 644 "$1/d/a.db"`, w.dir)
	c = w.open("d/a.db", "")
	w.commits("d/a.db", c, insert, "PRAGMA journal_mode=WAL", insert)
	if n := len(w.sink("d/a.db").generations); n != 1 {
		t.Errorf("%d generations, want 1", n)
	}
}

// Reads and writes that pass by the kernel's cache.
func TestDirectIO(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("a.db", "")
	fill(c, "t", 100)
	c.close()
	w.awaitFile("a.db")
	w.shell(`dd if="$1/a.db" of="$1/b.db" bs=4096 iflag=direct oflag=direct status=none; cmp "$1/a.db" "$1/b.db"`, w.dir)
	w.awaitFile("b.db")
	// A page written in place: free space of the last one.
	f, err := os.OpenFile(w.path("b.db"), os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page := aligned(4096)
	if _, err := f.ReadAt(page, 4096); err != nil {
		t.Fatal(err)
	}
	page[200] ^= 1 // what SQLite makes of it does not matter
	if _, err := f.WriteAt(page, 4096); err != nil {
		t.Fatal(err)
	}
	w.awaitFile("b.db")
	c = w.open("b.db", "")
	w.commits("b.db", c, "CREATE TABLE u (id INTEGER PRIMARY KEY, b)")
}

// aligned returns n bytes at an address that O_DIRECT takes.
func aligned(n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	return b
}

// SQLite reads the main file through a mapping, and writes as always.
func TestMappedDatabase(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, inGate)
			w.mount()
			a, b := w.open("a.db", ""), w.open("a.db", "")
			for _, c := range []*conn{a, b} {
				c.exec("PRAGMA mmap_size=268435456")
				c.exec("PRAGMA journal_mode=" + mode)
			}
			fill(a, "t", 50)
			for i := range 5 {
				for _, c := range []*conn{a, b} {
					w.commits("a.db", c, insert, "PRAGMA wal_checkpoint(TRUNCATE)")
				}
				if n := b.query("SELECT count(*) FROM t"); n != 52+2*i {
					t.Fatalf("%d rows, want %d", n, 52+2*i)
				}
			}
			if maps := readFile(t, fmt.Sprintf("/proc/%d/maps", w.sqlite.cmd.Process.Pid)); !bytes.Contains(maps, []byte("/a.db\n")) {
				t.Error("the database is not mapped: this is not what was to be tested")
			}
		})
	}
}

// Holes of a file are pages of zeros, and stay holes.
func TestSparseFiles(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("a.db", "")
	fill(c, "t", 10)
	c.exec("PRAGMA secure_delete=ON") // free pages become zeros
	c.exec("INSERT INTO t (b) VALUES (randomblob(3000000))")
	c.exec("DELETE FROM t WHERE id > 10")
	c.close()
	w.shell(`cp --sparse=always "$1/a.db" "$1/b.db"; cmp "$1/a.db" "$1/b.db"`, w.dir)
	w.awaitFile("b.db")
	var st unix.Stat_t
	if err := unix.Stat(w.path("b.db"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > st.Size/2 {
		t.Errorf("%d bytes take %d: there are no holes", st.Size, st.Blocks*512)
	}
	c = w.open("b.db", "")
	w.commits("b.db", c, insert, "PRAGMA journal_mode=WAL", insert)
	c.close()
	// A hole made in place is a change that no write tells of.
	w.shell(`fallocate --punch-hole --offset 1000000 --length 65536 "$1/b.db"`, w.dir)
	w.awaitFile("b.db")
}

// Extended attributes are no change of the database.
func TestExtendedAttributes(t *testing.T) {
	w := newWorld(t, inGate)
	w.mount()
	c := w.open("a.db", "")
	c.exec("PRAGMA journal_mode=WAL")
	fill(c, "t", 10)
	w.captured("a.db", c)
	states := w.sink("a.db").count()
	if err := unix.Setxattr(w.path("a.db"), "user.note", []byte("kept"), 0); err != nil {
		t.Skip("no attributes: ", err)
	}
	w.captured("a.db", c)
	if n := w.sink("a.db").count() - states; n != 0 {
		t.Errorf("%d states captured of an attribute", n)
	}
	w.commits("a.db", c, insert)
	c.close()
	w.unmount()
	var value [8]byte
	if n, err := unix.Getxattr(w.path("a.db"), "user.note", value[:]); err != nil || string(value[:n]) != "kept" {
		t.Errorf("the attribute is %q, %v", value[:max(n, 0)], err)
	}
}

// Files named like databases that are none are left alone, until they become some.
func TestBecomesDatabase(t *testing.T) {
	w := newWorld(t, inGate)
	writeFile(t, w.path("empty.db"), nil)
	writeFile(t, w.path("text.db"), []byte(strings.Repeat("no database ", 1000)))
	if err := unix.Mkfifo(w.path("fifo.db"), 0644); err != nil {
		t.Fatal(err)
	}
	w.mount()
	writeFile(t, w.path("later.db"), nil)
	w.rename("fifo.db", "pipe.db", 0)
	w.onlyFollowed()
	for _, mode := range []string{"WAL", "DELETE"} {
		for _, name := range []string{"empty.db", "later.db"} {
			c := w.open(name, "")
			c.exec("PRAGMA journal_mode=" + mode)
			c.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, b)")
			w.commits(name, c, insert, insert)
			c.close()
		}
	}
	w.shell(`cat "$1/empty.db" > "$1/text.db"`, w.dir)
	w.awaitFile("text.db")
	c := w.open("text.db", "")
	w.commits("text.db", c, insert)
}

// A file that stops being a database has a past up to there, and another one when it
// becomes one again.
func TestIsNoDatabaseAnyMore(t *testing.T) {
	for _, way := range []string{`echo "no database" > "$1/a.db"`, `: > "$1/a.db"`, `truncate -s 50 "$1/a.db"`, `dd if=/dev/zero of="$1/a.db" bs=4096 count=1 conv=notrunc status=none`} {
		t.Run(way, func(t *testing.T) {
			w := newWorld(t, inGate)
			w.mount()
			c := w.open("a.db", "")
			fill(c, "t", 10)
			c.close()
			w.awaitFile("a.db")
			states := w.sink("a.db").count()
			w.shell(`cp "$1/a.db" "$1/b.db"; sqlite3 "$1/b.db" "DELETE FROM t"; `+way, w.dir)
			w.await("it is not followed any more", func() bool { return len(w.followed()) == 1 })
			if n := w.sink("a.db").count() - states; n != 0 {
				t.Errorf("%d states captured of a file that is no database", n)
			}
			w.shell(`cat "$1/b.db" > "$1/a.db"`, w.dir)
			w.awaitFile("a.db")
			if n := len(w.sink("a.db").generations); n != 2 {
				t.Errorf("%d generations, want 2", n)
			}
			c = w.open("a.db", "")
			w.commits("a.db", c, insert)
		})
	}
}

// A name may be so long that nothing can be beside it: no SQLite has it open, but
// it is a database all the same.
func TestLongestName(t *testing.T) {
	w := newWorld(t, inGate)
	name := strings.Repeat("n", 255)
	w.mount()
	w.sqlite3Shell("a.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1)")
	w.shell(`cp "$1/a.db" "$1/$2"`, w.dir, name)
	w.awaitFile(name)
	w.sqlite3Shell("a.db", "INSERT INTO t VALUES (2)")
	w.shell(`cat "$1/a.db" > "$1/$2"`, w.dir, name)
	w.awaitFile(name)
	generations := len(w.sink(name).generations)
	w.unmount()
	w.mount()
	w.onlyFollowed("a.db", name)
	if n := len(w.sink(name).generations); n != generations {
		t.Errorf("%d generations after it was mounted again, there were %d", n, generations)
	}
}
