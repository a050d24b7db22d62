package history

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/walback/walback/wal"
)

func TestStockSQLiteReadsThePast(t *testing.T) {
	p := newPast(t)
	d := p.orders(t, "c1", "db.sqlite")
	m := p.mount(t, func(o *Options) {
		o.Now = func() time.Time { return (d.txns[2].Time + 3600*second).Std() }
	})
	const count = "SELECT count(*) FROM orders"
	for instant, want := range map[string]string{
		"latest":                         "0",
		"@1":                             "0",
		"@2":                             "10",
		"@3":                             "0",
		"2024-01-14T15:45:00Z":           "0",
		"2024-01-14T15:45:01Z":           "10",
		"2024-01-14T15:45:01.999999Z":    "10",
		"2024-01-14T15:45:02Z":           "0",
		"2024-01-14T16:45:01.5+01:00":    "10",
		"2024-01-14T15:46":               "0",
		"60m-ago":                        "0",
		"3601s-ago":                      "10",
		"2024-01-14T15:45:01.000000Z":    "10",
		"2024-01-14T13:45:01.25-02:00":   "10",
		"2024-01-14T15:45:01.000000000Z": "",
	} {
		file := m.path("c1", instant, "db.sqlite")
		if want == "" {
			if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: got %v, want ENOENT", instant, err)
			}
			continue
		}
		if got := sqlite(t, file, count); got != want {
			t.Errorf("%s: %s orders, want %s", instant, got, want)
		}
		if got := sqlite(t, file, "PRAGMA integrity_check"); got != "ok" {
			t.Errorf("%s: integrity_check: %s", instant, got)
		}
	}
	// Opened for writing, it is read-only.
	file := m.path("c1", "@2", "db.sqlite")
	out, err := exec.Command("sqlite3", "-batch", file, "DELETE FROM orders").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "readonly") {
		t.Errorf("a write: %v, %s", err, out)
	}
	// Two instants in one query.
	got := sqlite(t, m.path("c1", "latest", "db.sqlite"), fmt.Sprintf(
		`ATTACH '%s' AS was; SELECT group_concat(id) FROM was.orders WHERE id NOT IN (SELECT id FROM orders) AND id > 7`, file))
	if got != "8,9,10" {
		t.Errorf("rows that were deleted: %s, want 8,9,10", got)
	}
}

func TestCopiesAreTheImages(t *testing.T) {
	p := newPast(t)
	d := p.orders(t, "c1", "db.sqlite")
	m := p.mount(t, nil)
	for _, txn := range d.txns {
		to := filepath.Join(t.TempDir(), "copy")
		from := m.path("c1", txn.Time.String(), "db.sqlite")
		output(t, "cp", "--preserve=timestamps", from, to)
		got, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, d.readOnly(txn.ID)) {
			t.Errorf("cp of transaction %d is not its image", txn.ID)
		}
		fi, err := os.Stat(to)
		if err != nil {
			t.Fatal(err)
		}
		if wal.TimeOf(fi.ModTime()) != txn.Time {
			t.Errorf("the copy's time is %s, want that of the commit, %s", fi.ModTime(), txn.Time)
		}
	}
}

// Any instant shows the last transaction at or before it; what is before the
// first, in the future or malformed does not exist.
func TestEveryInstant(t *testing.T) {
	p := newPast(t)
	d := p.database(t, "eu/shop/app.db", "app.db")
	d.commit(t, "CREATE TABLE t (v)")
	for i := range 30 {
		d.commit(t, fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
	}
	now := d.txns[30].Time + 100*second
	m := p.mount(t, func(o *Options) { o.Now = now.Std })
	rapid.Check(t, func(t *rapid.T) {
		at := wal.Time(rapid.Int64Range(int64(began-10*second), int64(now+10*second)).Draw(t, "at"))
		got, err := os.ReadFile(m.path("eu/shop/app.db", at.String(), "app.db"))
		if at < began || at > now {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("%s, where there is nothing: %v", at, err)
			}
			return
		}
		want := wal.TXID(min((at-began)/second, 30) + 1)
		if err != nil || !bytes.Equal(got, d.readOnly(want)) {
			t.Fatalf("%s is not transaction %d (%v)", at, want, err)
		}
	})
	for _, name := range []string{
		"@0", "@32", "@-1", "@", "@1x", "yesterday", "2024-01-14T15", "2024-02-30", "2024-01-14 15:45:00", "1h", "-1h-ago",
		"LATEST", "latest ", ".git", "2024-01-14T15:45:00.1234567Z", "2025-01-01", "log/x", strings.Repeat("9", 200),
	} {
		if _, err := os.Stat(m.path("eu/shop/app.db", name)); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%q: got %v, want that there is no such file", name, err)
		}
	}
	for _, name := range []string{"app.db-journal", "app.db-wal", "app.db-shm", "db.sqlite", "other"} {
		for range 2 {
			if _, err := os.Stat(m.path("eu/shop/app.db/@3", name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s beside the database: %v", name, err)
			}
		}
	}
	if m.log.String() != "" {
		t.Errorf("names that do not exist are logged:\n%s", m.log)
	}
}

func TestNothingCanBeWritten(t *testing.T) {
	p := newPast(t)
	p.orders(t, "c1", "db.sqlite")
	m := p.mount(t, nil)
	file := m.path("c1", "latest", "db.sqlite")
	_, open := os.OpenFile(file, os.O_RDWR, 0)
	_, create := os.Create(m.path("c1", "latest", "db.sqlite-journal"))
	for what, err := range map[string]error{
		"open for writing": open,
		"create":           create,
		"unlink":           os.Remove(file),
		"mkdir":            os.Mkdir(m.path("new"), 0o700),
		"chmod":            os.Chmod(file, 0o600),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
}

func TestAttributesAndInodes(t *testing.T) {
	p := newPast(t)
	d := p.orders(t, "c1", "db.sqlite")
	m := p.mount(t, nil)
	var inodes []uint64
	for _, instant := range []string{"@2", "2024-01-14T15:45:01Z", "2024-01-14T15:45:01.5Z"} {
		var st unix.Stat_t
		if err := unix.Stat(m.path("c1", instant, "db.sqlite"), &st); err != nil {
			t.Fatal(err)
		}
		inodes = append(inodes, st.Ino)
		if st.Mode != syscall.S_IFREG|0o444 || st.Size != int64(len(d.images[1])) || st.Nlink != 1 {
			t.Errorf("%s: mode %o size %d links %d, want 100444, %d, 1", instant, st.Mode, st.Size, st.Nlink, len(d.images[1]))
		}
		if got := wal.TimeOf(time.Unix(st.Mtim.Unix())); got != d.txns[1].Time {
			t.Errorf("%s: changed at %s, want %s", instant, got, d.txns[1].Time)
		}
		fi, err := os.Stat(m.path("c1", instant))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != fs.ModeDir|0o555 || wal.TimeOf(fi.ModTime()) != d.txns[1].Time {
			t.Errorf("directory %s: %s, changed at %s", instant, fi.Mode(), fi.ModTime())
		}
	}
	if len(slices.Compact(inodes)) != 1 {
		t.Errorf("paths of one transaction have inodes %d", inodes)
	}
	var other unix.Stat_t
	if err := unix.Stat(m.path("c1", "@3", "db.sqlite"), &other); err != nil {
		t.Fatal(err)
	}
	if other.Ino == inodes[0] {
		t.Error("two transactions share an inode")
	}
}

func TestListings(t *testing.T) {
	p := newPast(t)
	p.orders(t, "c1", "db.sqlite")
	p.orders(t, "eu/app.db", "app.db")
	p.orders(t, "eu", "db.sqlite")
	p.orders(t, "eu-west/generations", "db.sqlite")
	p.put(t, "unrelated/file", []byte("x"))
	m := p.mount(t, nil)
	commits := []string{"2024-01-14T15:45:00.000000Z", "2024-01-14T15:45:01.000000Z", "2024-01-14T15:45:02.000000Z"}
	for dir, want := range map[string][]string{
		"":                     {"README.txt", "c1", "eu", "eu-west", "unrelated"}, // not looked into
		"c1":                   append(slices.Clone(commits), "latest", "log"),
		"eu":                   append(slices.Clone(commits), "app.db", "latest", "log"),
		"eu/app.db":            append(slices.Clone(commits), "latest", "log"),
		"eu-west":              {"generations"},
		"eu-west/generations":  append(slices.Clone(commits), "latest", "log"),
		"c1/latest":            {"db.sqlite"},
		"eu/app.db/@2":         {"app.db"},
		"eu/app.db/2024-01-15": {"app.db"},
	} {
		entries, err := os.ReadDir(m.path(dir))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
			if fi, err := os.Stat(m.path(dir, e.Name())); err != nil || fi.Mode().Type() != e.Type() {
				t.Errorf("%s/%s is listed as %s, but: %v, %v", dir, e.Name(), e.Type(), fi, err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q lists %q, want %q", dir, got, want)
		}
	}
	if inside, err := os.ReadDir(m.path("unrelated")); err != nil || len(inside) > 0 {
		t.Errorf("what is no client: %v, %v", inside, err)
	}
	readme, err := os.ReadFile(m.path("README.txt"))
	if err != nil || !bytes.Equal(readme, readmeText) {
		t.Errorf("README.txt: %v", err)
	}
	found := output(t, "find", m.path("eu"), "-name", "*.db", "-type", "f")
	if n := len(strings.Split(found, "\n")); n != 4 {
		t.Errorf("find found %d files below eu:\n%s", n, found)
	}
	to := t.TempDir()
	archive := filepath.Join(to, "all.tar")
	output(t, "tar", "-cf", archive, "-C", m.Dir(), ".")
	output(t, "tar", "-xf", archive, "-C", to)
	output(t, "diff", "-r", m.path("eu"), filepath.Join(to, "eu"))
	output(t, "ls", "-laR", m.Dir())
}

func TestListingShowsTheNewestHundred(t *testing.T) {
	p := newPast(t)
	d := p.database(t, "c1", "db.sqlite")
	d.keep = false
	d.commit(t, "CREATE TABLE t (v)")
	for i := range 119 {
		d.commit(t, fmt.Sprintf("INSERT INTO t VALUES (%d)", i))
	}
	m := p.mount(t, nil)
	names := strings.Split(output(t, "ls", m.path("c1")), "\n")
	want := []string{d.txns[0].Time.String()} // the snapshot
	for _, txn := range d.txns[20:] {
		want = append(want, txn.Time.String())
	}
	want = append(want, "latest", "log")
	if !slices.Equal(names, want) {
		t.Errorf("%d names, want %d: %q", len(names), len(want), names)
	}
	if _, err := os.Stat(m.path("c1", d.txns[7].Time.String())); err != nil {
		t.Errorf("an instant that is not listed: %v", err)
	}
	// The log, by different ways of reading it.
	log := m.path("c1", "log")
	whole, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(whole), "\n"), "\n")
	if len(lines) != 121 {
		t.Fatalf("the log has %d lines, want a head and 120", len(lines))
	}
	for i, txn := range d.txns {
		want := []string{txn.ID.String(), txn.Time.String(), fmt.Sprint(txn.Pages), fmt.Sprint(int(txn.Pages) * d.pageSize),
			fmt.Sprint(int(txn.Size) * d.pageSize), d.gen.String()}
		if got := strings.Fields(lines[i+1]); !slices.Equal(got, want) {
			t.Fatalf("line %d: %q, want %q", i+1, got, want)
		}
	}
	if got, want := output(t, "tail", "-n", "3", log), strings.Join(lines[118:], "\n"); got != want {
		t.Errorf("tail: %s, want %s", got, want)
	}
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rapid.Check(t, func(t *rapid.T) {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		off := rapid.IntRange(0, len(whole)).Draw(t, "off")
		b := make([]byte, rapid.IntRange(0, len(whole)-off).Draw(t, "n"))
		if _, err := f.ReadAt(b, int64(off)); err != nil || !bytes.Equal(b, whole[off:off+len(b)]) {
			t.Fatalf("%d bytes of the log at %d: %v", len(b), off, err)
		}
	})
}
