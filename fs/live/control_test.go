package live

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The hidden directory is not listed, shows the control files, made anew at
// every open, and nothing of what lies underneath.
func TestControl(t *testing.T) {
	needFUSE(t)
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, controlDir, "spool"), 0755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, controlDir, "state"), "private")
	write(t, filepath.Join(dir, "app.db"), "")
	opened := 0
	long := strings.Repeat("0123456789\n", 100_000)
	f := mountAt(t, dir, Options{Control: map[string]func() ([]byte, error){
		"status": func() ([]byte, error) { opened++; return fmt.Appendf(nil, "opened %d\n", opened), nil },
		"long":   func() ([]byte, error) { return []byte(long), nil },
		"empty":  func() ([]byte, error) { return nil, nil },
		"broken": func() ([]byte, error) { return nil, fmt.Errorf("status: %w", syscall.EDQUOT) },
	}}, nil)
	at := func(name string) string { return filepath.Join(dir, controlDir, name) }

	if names := list(t, dir); !slices.Equal(names, []string{"app.db"}) {
		t.Errorf("the root lists %q", names)
	}
	if names := list(t, at("")); !slices.Equal(names, []string{"broken", "empty", "long", "status"}) {
		t.Errorf("the hidden directory lists %q", names)
	}
	for _, want := range []string{"opened 1\n", "opened 2\n"} {
		if got := read(t, at("status")); got != want {
			t.Errorf("status reads %q, want %q", got, want)
		}
	}
	if read(t, at("long")) != long || read(t, at("empty")) != "" {
		t.Error("content is cut")
	}
	for name, want := range map[string]error{"broken": syscall.EDQUOT, "state": syscall.ENOENT, "spool": syscall.ENOENT} {
		if _, err := os.ReadFile(at(name)); !errors.Is(err, want) {
			t.Errorf("reading %s: %v, want %v", name, err, want)
		}
	}
	for what, do := range map[string]func() error{
		"write":       func() error { return os.WriteFile(at("status"), nil, 0644) },
		"create":      func() error { return os.WriteFile(at("new"), nil, 0644) },
		"mkdir":       func() error { return os.Mkdir(at("new"), 0755) },
		"remove":      func() error { return unix.Unlink(at("status")) },
		"rmdir":       func() error { return unix.Rmdir(at("")) },
		"rename away": func() error { return unix.Rename(at(""), filepath.Join(dir, "x")) },
		"rename over": func() error { return unix.Rename(filepath.Join(dir, "app.db"), at("")) },
		"move out":    func() error { return unix.Rename(at("status"), filepath.Join(dir, "x")) },
		"move in":     func() error { return unix.Rename(filepath.Join(dir, "app.db"), at("x")) },
		"mkdir again": func() error { return os.Mkdir(at(""), 0755) },
		"link":        func() error { return unix.Link(at("status"), filepath.Join(dir, "x")) },
		"chmod":       func() error { return os.Chmod(at("status"), 0600) },
		"truncate":    func() error { return os.Truncate(at("status"), 0) },
	} {
		if err := do(); err == nil {
			t.Errorf("%s of the hidden directory worked", what)
		}
	}
	if got := read(t, at("status")); got != "opened 3\n" {
		t.Errorf("status reads %q after all that", got)
	}
	unmount(t, f)
	if got := read(t, at("state")); got != "private" {
		t.Errorf("underneath is %q", got)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
