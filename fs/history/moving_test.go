package history

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// eventually waits for something that another process brings about.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain: ", what)
		}
	}
}

// Names whose meaning can still change are looked up again; what is open does
// not change.
func TestNewCommitsAppear(t *testing.T) {
	p := newPast(t)
	d := p.orders(t, "c1", "db.sqlite")
	m := p.mount(t, nil)
	open, err := os.Open(m.path("c1", "latest", "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	later := (d.txns[2].Time + 10*second).String()
	read := func(instant string) []byte {
		b, err := os.ReadFile(m.path("c1", instant, "db.sqlite"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return b
	}
	for _, instant := range []string{"latest", later} {
		if !bytes.Equal(read(instant), d.readOnly(3)) {
			t.Errorf("%s is not transaction 3", instant)
		}
	}
	if read("@4") != nil {
		t.Error("@4 is there before it was committed")
	}
	d.commit(t, "INSERT INTO orders VALUES (11, 'new')")
	for _, instant := range []string{"latest", later, "@4"} {
		eventually(t, instant+" shows the new commit", func() bool { return bytes.Equal(read(instant), d.readOnly(4)) })
	}
	if got, err := io.ReadAll(open); err != nil || !bytes.Equal(got, d.readOnly(3)) {
		t.Errorf("a file that was open changed, or %v", err)
	}
	// A new client and a new neighbour.
	p.orders(t, "c2/new.db", "new.db")
	eventually(t, "the new client", func() bool {
		_, err := os.Stat(m.path("c2/new.db/latest/new.db"))
		return err == nil
	})
}

// A client that has just come is found at once, though nobody was there when it
// was looked for a moment ago.
func TestNewClientIsFound(t *testing.T) {
	p := newPast(t)
	m := p.mount(t, nil)
	for _, client := range []string{"new", "below/new"} {
		if _, err := os.Stat(m.path(client)); !os.IsNotExist(err) {
			t.Fatalf("%s: %v, want no such file", client, err)
		}
		p.orders(t, client, "db.sqlite")
		if _, err := os.Stat(m.path(client, "@2", "db.sqlite")); err != nil {
			t.Error(err)
		}
	}
}

// cp looks at a file, opens it, and refuses to copy another inode than the one
// it has looked at: through a moving name a commit may come in between.
func TestMovingNameKeepsItsInode(t *testing.T) {
	p := newPast(t)
	d := p.orders(t, "c1", "db.sqlite")
	m := p.mount(t, nil)
	var before, after unix.Stat_t
	if err := unix.Stat(m.path("c1", "latest", "db.sqlite"), &before); err != nil {
		t.Fatal(err)
	}
	d.commit(t, "INSERT INTO orders VALUES (11, 'new')")
	var content []byte
	eventually(t, "latest shows the new commit", func() bool {
		f, err := os.Open(m.path("c1", "latest", "db.sqlite"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.Fstat(int(f.Fd()), &after); err != nil {
			t.Fatal(err)
		}
		if content, err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		return bytes.Equal(content, d.readOnly(4))
	})
	if before.Ino != after.Ino || before.Dev != after.Dev {
		t.Errorf("inode %d became %d", before.Ino, after.Ino)
	}
	if before.Mtim == after.Mtim {
		t.Error("the time of the commit does not show")
	}
}
