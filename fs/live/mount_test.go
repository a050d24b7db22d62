package live

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv(sqliteChild) != "" {
		serveSQLite()
		return
	}
	if dir := os.Getenv(mountChild); dir != "" {
		serveMount(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// mounted serves a new directory over itself and returns it with the mount. It
// is unmounted when the test ends.
func mounted(t *testing.T, o Options, start func(root string) (watcher, error)) (string, *FS) {
	t.Helper()
	needFUSE(t)
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0755); err != nil {
		t.Fatal(err)
	}
	return dir, mountAt(t, dir, o, start)
}

// mountAt is mounted at a directory that exists.
func mountAt(t *testing.T, dir string, o Options, start func(root string) (watcher, error)) *FS {
	t.Helper()
	if start == nil {
		start = func(string) (watcher, error) { return indifferent{}, nil }
	}
	o.InProcess = true
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	f, err := mount(dir, o, start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmount(t, f) })
	return f
}

func unmount(t *testing.T, f *FS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := f.Unmount(ctx); err != nil {
		t.Errorf("unmounting: %v", err)
		if err := f.Detach(); err != nil {
			t.Errorf("detaching: %v", err)
		}
		return
	}
	if err := f.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
}

func needFUSE(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		t.Skip("no /dev/fuse: ", err)
	}
}

// Everything go-fuse asks of a POSIX filesystem, except what no local
// filesystem does either; those tests fail on a plain directory too.
func TestPosix(t *testing.T) {
	notPOSIX := map[string]string{
		"FcntlFlockLocksFile": "wants two descriptors of one process to exclude each other; POSIX locks belong to the process",
	}
	for name, test := range posixtest.All {
		t.Run(name, func(t *testing.T) {
			if why, ok := notPOSIX[name]; ok {
				t.Skip(why)
			}
			dir, _ := mounted(t, Options{}, nil)
			test(t, dir)
		})
	}
}
