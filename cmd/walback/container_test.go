package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/generations"
)

// container has a command run in namespaces of its own, where the directory from
// is found at the directory at, and from itself is hidden: a container with a
// bind mount.
type container struct {
	unshare  []string // what it has of its own, as arguments of unshare
	from, at string
}

// wrap makes cmd run in the container. The paths among its arguments have to be
// those it finds there.
func (c container) wrap(cmd *exec.Cmd) {
	const enter = `from=$1 at=$2; shift 2
		if [ -n "$from" ]; then
			mount --bind "$from" "$at"
			mount -t tmpfs none "$from"
		fi
		exec "$@"`
	args := append([]string{"unshare"}, c.unshare...)
	args = append(args, "sh", "-ec", enter, "sh", c.from, c.at, cmd.Path)
	cmd.Args = append(args, cmd.Args[1:]...)
	cmd.Path, cmd.Err = exec.LookPath("unshare")
}

// need skips the test on a machine that has no such namespaces.
func (c container) need(t *testing.T) {
	t.Helper()
	args := append(append([]string{}, c.unshare...), "mount", "-t", "tmpfs", "none", t.TempDir())
	if out, err := exec.Command("unshare", args...).CombinedOutput(); err != nil {
		t.Skipf("no such namespaces to be had here (unshare %s): %v: %s", strings.Join(c.unshare, " "), err, out)
	}
}

// namespaces are what containers have of their own.
var namespaces = map[string][]string{
	"private":        {"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private"},
	"slave":          {"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=slave"},
	"user namespace": {"--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"},
}

// TestContainers has processes inside and outside of a container use one
// database: they exclude each other, they see each other's commits, by locks and
// by the mapped wal-index, and all of it is captured.
func TestContainers(t *testing.T) {
	inModes(t, func(t *testing.T, m mode) {
		for name, unshare := range namespaces {
			t.Run(name, func(t *testing.T) { testContainer(t, m, unshare) })
		}
	})
}

func testContainer(t *testing.T, m mode, unshare []string) {
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")})
	w.mode = m
	c := container{unshare: unshare, from: w.dir, at: t.TempDir()}
	c.need(t)
	w.mount()
	for _, mode := range []string{"wal", "delete"} {
		outside := speak(t, filepath.Join(w.dir, mode+".db"), nil)
		outside.want(mode, "PRAGMA journal_mode="+mode)
		outside.want("ok", "CREATE TABLE t(n)")
		outside.want("ok", "INSERT INTO t VALUES(0)")
		inside := speak(t, filepath.Join(c.at, mode+".db"), c.wrap)
		increments := share(outside, inside)
		inside.end()
		outside.end()
		w.wantIncrements(mode+".db", increments)
	}
	w.unmount()
}

// share has two speakers increment the n of t in turns, and get in each other's
// way. It returns the last n.
func share(a, b *spoken) (n int) {
	a.t.Helper()
	b.want(fmt.Sprint(n), "SELECT n FROM t")
	for range 5 {
		for _, who := range []struct{ writes, waits *spoken }{{a, b}, {b, a}} {
			who.writes.want("ok", "BEGIN IMMEDIATE")
			who.waits.want("busy", "BEGIN IMMEDIATE")
			who.waits.want(fmt.Sprint(n), "SELECT n FROM t")
			n++
			who.writes.want("ok", "UPDATE t SET n=n+1")
			who.writes.want("ok", "COMMIT")
			who.waits.want(fmt.Sprint(n), "SELECT n FROM t")
		}
	}
	return n
}

// wantIncrements makes sure that history has t with each n up to last, in order.
func (w *world) wantIncrements(path string, last int) {
	w.t.Helper()
	client, file := generations.ClientOf(path)
	latest := filepath.Join(w.history, client, "latest", file)
	db := openAt(w.t, "file:"+latest+"?mode=ro") // looking makes the mount save what there is
	if n, err := value(db, "SELECT n FROM t"); err != nil || n != int64(last) {
		w.t.Errorf("%s: the latest n of history is %v, %v, want %d", path, n, err, last)
	}
	if err := db.Close(); err != nil {
		w.t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(w.history, client, "log"))
	if err != nil {
		w.t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) < last {
		w.t.Fatalf("%s: history has %d lines for %d increments:\n%s", path, len(lines), last, text)
	}
	index := 0
	if _, err := fmt.Sscan(lines[len(lines)-1], &index); err != nil {
		w.t.Fatalf("%s: %v in %q", path, err, lines[len(lines)-1])
	}
	for n := last; n >= 0; n-- {
		past := openAt(w.t, "file:"+filepath.Join(w.history, client, fmt.Sprintf("@%d", index-last+n), file)+"?mode=ro")
		if got, err := value(past, "SELECT n FROM t"); err != nil || got != int64(n) {
			w.t.Errorf("%s: transaction %d has %v, %v, want %d", path, index-last+n, got, err, n)
		}
		if err := past.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

// TestContainerBeforeMount starts a container in front of the mount: where mounts
// spread into it, it comes to see the mount, and its end.
func TestContainerBeforeMount(t *testing.T) { inModes(t, testContainerBeforeMount) }

func testContainerBeforeMount(t *testing.T, m mode) {
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")})
	w.mode = m
	c := container{unshare: namespaces["slave"]}
	c.need(t)
	top := filepath.Dir(w.dir)
	if err := unix.Mount(top, top, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(top, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", top, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(w.dir, "app.db")
	inside := speak(t, name, c.wrap)
	w.mount()
	inside.want("wal", "PRAGMA journal_mode=wal")
	inside.want("ok", "CREATE TABLE t(n)")
	inside.want("ok", "INSERT INTO t VALUES(0)")
	outside := speak(t, name, nil)
	last := share(outside, inside)
	w.wantIncrements("app.db", last)
	outside.end()
	inside.want("ok", hangUp)
	w.unmount()
	inside.want(fmt.Sprint(last), "SELECT n FROM t")
	inside.end()
}

// TestDaemonInContainer runs the daemon in namespaces of its own. Those who share
// them use the mount; outside there is none.
func TestDaemonInContainer(t *testing.T) {
	inModes(t, func(t *testing.T, m mode) {
		for name, unshare := range namespaces {
			if m == passed && slices.Contains(unshare, "--user") {
				continue // its root may not ask the kernel for that
			}
			t.Run(name, func(t *testing.T) { testDaemonInContainer(t, m, unshare) })
		}
	})
}

func testDaemonInContainer(t *testing.T, m mode, unshare []string) {
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")})
	w.mode = m
	c := container{unshare: unshare}
	c.need(t)
	w.wrap = c.wrap
	w.mount()
	daemon := strconv.Itoa(w.daemon.inside())
	join := func(cmd *exec.Cmd) {
		enter := []string{"nsenter", "--all", "--target", daemon}
		cmd.Args = append(append(enter, cmd.Path), cmd.Args[1:]...)
		cmd.Path, cmd.Err = exec.LookPath("nsenter")
	}
	app := filepath.Join(w.dir, "app.db")
	one, other := speak(t, app, join), speak(t, app, join)
	one.want("wal", "PRAGMA journal_mode=wal")
	one.want("ok", "CREATE TABLE t(n)")
	one.want("ok", "INSERT INTO t VALUES(0)")
	last := share(one, other)
	one.end()
	other.end()
	w.unmount()
	if served(w.dir) {
		t.Error("the mount is to be seen outside")
	}
	w.wrap = nil
	w.mount()
	w.wantIncrements("app.db", last)
	w.unmount()
}

// signal sends s to walback itself, not to the unshare that may have started it.
func (d *daemon) signal(s syscall.Signal) error {
	if filepath.Base(d.cmd.Path) != "unshare" {
		return d.cmd.Process.Signal(s)
	}
	return syscall.Kill(d.inside(), s)
}

// inside returns the process that d has forked, or d's own.
func (d *daemon) inside() int {
	pid := d.cmd.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return pid // it has ended
	}
	if fields := strings.Fields(string(children)); len(fields) == 1 {
		if child, err := strconv.Atoi(fields[0]); err == nil {
			return child
		}
	}
	return pid
}

// TestContainerOutlivesMount ends the daemon while a container has the mount: what
// the container does until then is captured, and who loses the mount is said.
func TestContainerOutlivesMount(t *testing.T) {
	if testing.Short() {
		t.Skip("the daemon waits for the container until unmountTimeout")
	}
	t.Parallel()
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")}, "-shutdown-timeout", "5s")
	w.mode = intercepted // what is passed goes on without a daemon
	c := container{unshare: []string{"--mount"}, from: w.dir, at: t.TempDir()}
	c.need(t)
	w.mount()
	inside := speak(t, filepath.Join(c.at, "app.db"), c.wrap)
	inside.want("wal", "PRAGMA journal_mode=wal")
	inside.want("ok", "CREATE TABLE t(n)")
	inside.want("ok", "INSERT INTO t VALUES(0)")
	d := w.daemon
	ended := make(chan error)
	go func() { ended <- d.end(syscall.SIGTERM) }()
	if err := awaitMounts([]string{w.history}, func(_, _ []string) bool { return !served(w.history) }); err != nil {
		t.Fatal(err)
	}
	inside.want("ok", "UPDATE t SET n=1") // nobody has told it
	if err := <-ended; err != nil {
		t.Errorf("walback mount ended with %v", err)
	}
	w.daemon = nil
	for _, dir := range []string{w.dir, w.history} {
		_, by, _ := strings.Cut(d.log(), dir+": in use: ")
		if who := fmt.Sprintf("(speaker, pid %d); detached", inside.cmd.Process.Pid); !strings.Contains(by, who) {
			t.Errorf("the daemon does not say %s of %s:\n%s", who, dir, d.log())
		}
	}
	if got := inside.say("", "UPDATE t SET n=2"); !strings.Contains(got, "not connected") {
		t.Errorf("in the container, without a daemon: %s", got)
	}
	inside.kill()
	w.mount()
	w.wantIncrements("app.db", 1)
	w.unmount()
}
