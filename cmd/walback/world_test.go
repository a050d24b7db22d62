package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/storetest"
)

// world is what surrounds an application under test: its directory, a store, and
// the daemon between them, which is the real program in a process of its own, so
// that it can be killed, and so that SQLite may map files of the mount.
type world struct {
	t       *testing.T
	dir     string // of the application
	history string
	store   generations.URL
	flags   []string // of walback mount
	mode    mode     // one of them; "" is what the program chooses
	env     []string
	wrap    func(*exec.Cmd) // changes how daemons are started; may be nil

	daemon *daemon

	mu      sync.Mutex
	resumed int // generations that a daemon went on with
	begun   int // and those it began; both guarded by mu
}

// onStores runs test with a directory and with a real S3 server as the store.
func onStores(t *testing.T, test func(t *testing.T, store generations.URL)) {
	t.Run("directory", func(t *testing.T) {
		test(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")})
	})
	t.Run("S3", func(t *testing.T) {
		test(t, storetest.Versitygw(t).URL("databases"))
	})
}

// everywhere runs test with each store in each mode.
func everywhere(t *testing.T, test func(t *testing.T, store generations.URL, m mode)) {
	inModes(t, func(t *testing.T, m mode) {
		onStores(t, func(t *testing.T, store generations.URL) { test(t, store, m) })
	})
}

// newWorld makes the places; nothing is mounted yet.
func newWorld(t *testing.T, store generations.URL, flags ...string) *world {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("this test mounts: %v", err)
	}
	root := t.TempDir()
	w := &world{
		t:       t,
		dir:     filepath.Join(root, "data"),
		history: filepath.Join(root, "history"),
		store:   store,
		env:     append(os.Environ(), "GORACE=atexit_sleep_ms=0", "XDG_RUNTIME_DIR="+filepath.Join(root, "run")),
	}
	w.flags = append([]string{"-history", w.history, "-cache-dir", filepath.Join(root, "cache")}, flags...)
	for _, dir := range []string{w.dir, w.history} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if w.daemon != nil {
			w.kill()
		}
		detachBelow(t, root)
	})
	return w
}

// url returns the URL of a database's past.
func (w *world) url(name string) string { return joinClient(w.store, name).String() }

// mount starts the daemon and returns when everything can be used. What a killed
// one has left mounted is in the way only for the program to deal with.
func (w *world) mount() {
	w.t.Helper()
	d := w.launch()
	select {
	case <-d.ready:
	case <-d.exited:
		w.t.Fatalf("walback mount: %v\n%s", d.err, d.log())
	}
	if w.mode == passed {
		d.needPassing(w.t)
	}
}

// launch starts the daemon without waiting.
func (w *world) launch() *daemon {
	w.t.Helper()
	args := append([]string{"mount", w.dir, w.store.String()}, w.flags...)
	if w.mode != "" {
		args = append(args, w.mode.flag())
	}
	w.daemon = w.start(args, "mounted "+w.dir+":")
	return w.daemon
}

// unmount ends the daemon as a service manager would. Everything must be in the
// store then.
func (w *world) unmount() {
	w.t.Helper()
	d := w.daemon
	w.daemon = nil
	if err := d.end(syscall.SIGTERM); err != nil {
		w.t.Fatalf("walback mount ended with %v\n%s", err, d.log())
	}
}

// kill ends the daemon as a lack of memory would.
func (w *world) kill() {
	d := w.daemon
	w.daemon = nil
	_ = d.end(syscall.SIGKILL) // it has no other way to end
}

// serveHistory serves the past alone, on a directory that it returns, until the
// test ends.
func (w *world) serveHistory() string {
	w.t.Helper()
	return w.serveHistoryWith(w.t, filepath.Join(w.t.TempDir(), "cache"))
}

// serveHistoryWith is serveHistory with a cache directory, until t ends.
func (w *world) serveHistoryWith(t *testing.T, cache string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "history")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := w.start([]string{"history", w.store.String(), dir, "-cache-dir", cache}, "mounted "+dir+":")
	t.Cleanup(func() {
		if err := d.end(syscall.SIGTERM); err != nil {
			t.Errorf("walback history ended with %v\n%s", err, d.log())
		}
		detachBelow(t, root)
	})
	select {
	case <-d.ready:
	case <-d.exited:
		t.Fatalf("walback history: %v\n%s", d.err, d.log())
	}
	return dir
}

// run runs a command that ends by itself and returns what it prints.
func (w *world) run(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "walback", args...)
	cmd.Env = w.env
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("walback %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return out, err
}

// log returns what walback log tells of a client.
func (w *world) log(client string) []logRow {
	w.t.Helper()
	out, err := w.run("log", "-json", w.url(client))
	if err != nil {
		w.t.Fatal(err)
	}
	var rows []logRow
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var row logRow
		err := dec.Decode(&row)
		if err == io.EOF {
			return rows
		}
		if err != nil {
			w.t.Fatal(err)
		}
		rows = append(rows, row)
	}
}

// status returns how the live mount stands.
func (w *world) status() (mountStatus, error) { return readStatus(w.dir) }

// daemon is a walback that goes on until it is told to end.
type daemon struct {
	cmd    *exec.Cmd
	ready  chan struct{} // closed when it says so
	exited chan struct{} // closed when err is set
	err    error

	mu   sync.Mutex
	said bytes.Buffer // on stderr; guarded by mu
}

// start starts walback; it is ready when it prints the line that begins with ready.
func (w *world) start(args []string, ready string) *daemon {
	w.t.Helper()
	d := &daemon{cmd: exec.Command("walback", args...), ready: make(chan struct{}), exited: make(chan struct{})}
	d.cmd.Env = w.env
	if w.wrap != nil {
		w.wrap(d.cmd)
	}
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	// It ends with this process, however that ends.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel takes the thread for the parent
		err := d.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			w.heard(d, lines.Text())
			if strings.HasPrefix(lines.Text(), ready) {
				close(d.ready)
			}
		}
		d.err = d.cmd.Wait()
		close(d.exited)
	}()
	if err := <-started; err != nil {
		w.t.Fatal(err)
	}
	return d
}

// heard takes note of a line of a daemon's log.
func (w *world) heard(d *daemon, line string) {
	d.mu.Lock()
	fmt.Fprintln(&d.said, line)
	d.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case strings.Contains(line, "capture goes on"):
		w.resumed++
	case strings.Contains(line, `msg="a new generation begins"`):
		w.begun++
	case strings.Contains(line, "DATA RACE"), strings.HasPrefix(line, "panic:"), strings.HasPrefix(line, "fatal error:"):
		w.t.Errorf("a daemon says: %s", line)
	}
}

// lineages returns how often daemons went on with a generation, and how many
// they have begun.
func (w *world) lineages() (resumed, begun int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.resumed, w.begun
}

// log returns what d has printed.
func (d *daemon) log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.String()
}

// end sends a signal and waits until d has ended, with which error.
func (d *daemon) end(s syscall.Signal) error {
	if err := d.signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-d.exited
	return d.err
}
