package history

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// many puts n clients of one history each, of which the objects are the same but
// for their keys.
func (p *past) many(t *testing.T, n int) {
	t.Helper()
	p.orders(t, "c0", "db.sqlite")
	objects := map[string][]byte{}
	root := p.file("c0")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err == nil {
			objects[name], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < n; i++ {
		for name, b := range objects {
			p.put(t, fmt.Sprintf("c%d/%s", i, name), b)
		}
	}
}

// A listing of many clients costs one request for the directory they are in, and
// nothing for each of them; going through all of them a few for each.
func TestManyClients(t *testing.T) {
	const clients = 60
	p := newPast(t)
	p.many(t, clients)
	m := p.mount(t, nil)
	p.store.Reset()
	if got := strings.Count(output(t, "ls", "-l", m.Dir()), "\n"); got != clients+1 { // "total", README.txt
		t.Errorf("ls -l lists %d lines of %d", got, clients+1)
	}
	if c := p.store.Reset(); c.Requests() > 2 {
		t.Errorf("ls -l of %d clients: %+v", clients, c)
	}
	if _, err := os.Stat(m.path("c7")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(m.path("nobody")); !os.IsNotExist(err) {
		t.Error(err)
	}
	if c := p.store.Reset(); c.Requests() > 2 {
		t.Errorf("one client that is known and one that does not exist: %+v", c)
	}
	found := strings.Count(output(t, "find", m.Dir(), "-name", "*.sqlite"), "\n") + 1
	if want := clients * 4; found != want { // three commits and latest
		t.Errorf("find finds %d databases, want %d", found, want)
	}
	c := p.store.Reset()
	t.Logf("find through %d clients of 4 instants: %+v", clients, c)
	if c.Lists > 3*clients || c.Dirs > 2*clients+2 || c.Gets > 5*clients {
		t.Errorf("find through %d clients: %+v", clients, c)
	}
	a, err := os.ReadFile(m.path("c1/@2/db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(m.path("c0/@2/db.sqlite")); err != nil || !bytes.Equal(a, b) {
		t.Errorf("clients of one history differ: %v", err)
	}
}
