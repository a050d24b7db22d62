package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A busy mount names who keeps it busy and with what, and goes on working.
func TestUnmountBusy(t *testing.T) {
	dir := mountpoint(t)
	s := mounted(t, dir, Options{})
	for _, c := range []struct {
		name, script, want string
	}{
		{"open file", `exec 3<"$1/file"; echo ready; read _`, "file (sh, pid %d)"},
		{"working directory", `cd "$1"; echo ready; read _`, ". (sh, pid %d)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// The shell changes directory, not exec.Cmd: between fork and exec this
			// process could not answer for the directory.
			p, _ := start(t, exec.Command("sh", "-c", c.script, "sh", dir))
			var busy *BusyError
			err := s.Unmount(t.Context())
			if !errors.As(err, &busy) || !errors.Is(err, ErrBusy) {
				t.Fatalf("Unmount: %v, want a BusyError", err)
			}
			want := fmt.Sprintf(c.want, p.Process.Pid)
			if !strings.Contains(strings.Join(busy.Files, "\n"), want) || !strings.Contains(err.Error(), fmt.Sprint(p.Process.Pid)) {
				t.Errorf("%q does not name %q", err, want)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "file")); string(b) != "hello" {
				t.Errorf("reading while busy: %q, %v", b, err)
			}
			p.end(t)
		})
	}
	t.Run("mount inside", func(t *testing.T) {
		if err := unix.Mount("/etc/hostname", filepath.Join(dir, "file"), "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		var busy *BusyError
		if err := s.Unmount(t.Context()); !errors.As(err, &busy) || len(busy.Files) != 1 || !strings.HasPrefix(busy.Files[0], "file (mount of ") {
			t.Errorf("Unmount: %v", err)
		}
		if err := unix.Unmount(filepath.Join(dir, "file"), 0); err != nil {
			t.Fatal(err)
		}
	})
	unmount(t, s)
}

// A mapping keeps a file in use after its descriptor is closed.
func TestHoldersOfMappings(t *testing.T) {
	dir := mountpoint(t)
	s := mounted(t, dir, Options{})
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asMapper+"="+filepath.Join(dir, "file"))
	p, line := start(t, cmd)
	if line != "hello <nil>" {
		t.Fatal(line)
	}
	proc := fmt.Sprintf("/proc/%d", p.Process.Pid)
	want := fmt.Sprintf("file (%s, pid %d)", program(proc), p.Process.Pid)
	var busy *BusyError
	if err := s.Unmount(t.Context()); !errors.As(err, &busy) || !slices.Equal(busy.Files, []string{want}) {
		t.Errorf("Unmount: %v, want %s", err, want)
	}
	p.end(t)
	unmount(t, s)
}

// Another mount namespace, such as a container's, keeps what was mounted when it
// was made.
func TestUnmountWithContainer(t *testing.T) {
	dir := mountpoint(t)
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("no mount namespace to be had: %v: %s", err, out)
	}
	s := mounted(t, dir, Options{})
	p, _ := start(t, exec.Command("unshare", "--mount", "sh", "-c", "echo ready; read _"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var busy *BusyError
	err := s.Unmount(ctx)
	want := fmt.Sprintf("%s in another mount namespace (sh, pid %d)", dir, p.Process.Pid)
	if !errors.As(err, &busy) || !slices.Contains(busy.Files, want) {
		t.Errorf("Unmount: %v, want %s", err, want)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the plain directory has %v, %v", entries, err)
	}
	p.end(t)
	unmount(t, s)
}

// Detach frees the directory at once; who has a file open keeps it.
func TestDetach(t *testing.T) {
	dir := mountpoint(t)
	s := mounted(t, dir, Options{})
	f, err := os.Open(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Detach(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the plain directory has %v, %v", entries, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Unmount(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Unmount while a file is open elsewhere: %v", err)
	}
	b := make([]byte, 5)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "hello" {
		t.Errorf("reading the open file: %q, %v", b, err)
	}
	f.Close()
	s.Wait()
	if err := s.Detach(); err != nil {
		t.Errorf("detaching again: %v", err)
	}
	unmount(t, s)
}

// Somebody else's umount is as good as ours.
func TestUnmountedByOthers(t *testing.T) {
	dir := mountpoint(t)
	s := mounted(t, dir, Options{})
	if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.Wait()
	unmount(t, s)
}

// What was mounted on top stays, and is named.
func TestUnmountUnderAnother(t *testing.T) {
	dir := mountpoint(t)
	s := mounted(t, dir, Options{})
	if err := unix.Mount("a tmpfs", dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{s.Unmount(t.Context()), s.Detach()} {
		if err == nil || !strings.Contains(err.Error(), "a tmpfs") {
			t.Errorf("under a tmpfs: %v", err)
		}
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	unmount(t, s)
}
