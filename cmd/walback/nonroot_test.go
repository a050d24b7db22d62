package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/walback/walback/generations"
)

// room is a mount namespace in which /dev/fuse has a mode that the test chooses,
// and an ordinary user whose programs run in it.
type room struct {
	user
	pid      int    // of a process that keeps the namespace
	programs string // a directory with those of the user
	env      string // NAME=VALUE, more of the environment
}

// newRoom makes a room that is there until the test ends.
func newRoom(t *testing.T, u user, device string) room {
	t.Helper()
	needRoot(t)
	container{unshare: []string{"--mount"}}.need(t)
	for _, program := range []string{"fusermount3", "nsenter", "setpriv"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	cmd := exec.Command("unshare", "--mount", "sh", "-ec", `
		mknod -m "$1" "$2" c 10 229
		mount --bind "$2" /dev/fuse
		echo ready
		exec cat`, "sh", device, filepath.Join(t.TempDir(), "fuse"))
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // that ends it
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	return room{user: u, pid: cmd.Process.Pid, programs: programsForAll(t), env: "IN=room"}
}

// wrap has a command of ours run in the room, by its user.
func (r room) wrap(cmd *exec.Cmd) { r.enter(cmd, r.uid) }

// enter is wrap for any user.
func (r room) enter(cmd *exec.Cmd, uid int) {
	id := fmt.Sprint(uid)
	cmd.Args = append([]string{
		"nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", r.pid), "--wdns=/",
		"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "--inh-caps=-all", "--",
		"env", r.env,
		filepath.Join(r.programs, filepath.Base(cmd.Path)),
	}, cmd.Args[1:]...)
	cmd.Path, cmd.Err = exec.LookPath("nsenter")
}

// newWorldOf makes a world that belongs to the user of the room and is in it.
func newWorldOf(t *testing.T, r room, flags ...string) *world {
	t.Helper()
	root := t.TempDir()
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(root, "store")}, flags...)
	top := filepath.Dir(w.dir)
	for _, dir := range []string{root, top, w.dir, w.history} {
		openToAll(t, dir)
		if err := os.Chown(dir, r.uid, r.gid); err != nil {
			t.Fatal(err)
		}
	}
	w.wrap = r.wrap
	return w
}

// TestWithoutRoot does the whole job as an ordinary user, who mounts and unmounts
// with fusermount3: commits are captured and shipped, the past is read and
// restored, SIGTERM ends it, and what a killed daemon leaves mounted is no
// obstacle to the next. (The kernel passes nothing on for one who is not root.)
func TestWithoutRoot(t *testing.T) {
	r := newRoom(t, owner, "666")
	w := newWorldOf(t, r)
	w.mount()
	name := filepath.Join(w.dir, "app.db")
	app := speak(t, name, r.wrap)
	app.want("wal", "PRAGMA journal_mode=wal")
	app.want("ok", "CREATE TABLE t(n)")
	app.want("ok", "INSERT INTO t VALUES(0)")
	other := speak(t, name, r.wrap)
	n := share(app, other)
	other.end()
	wantPast(t, w, r, n)

	// Nobody else is let in, not even root.
	intruder := speak(t, name, func(cmd *exec.Cmd) { r.enter(cmd, 0) })
	if got := intruder.say("", touch); !strings.Contains(got, "permission denied") {
		t.Errorf("root opens a file of the mount: %s", got)
	}
	intruder.end()

	w.kill()
	app.kill() // the kernel may have done so
	w.mount()
	app = speak(t, name, r.wrap)
	app.want(fmt.Sprint(n), "SELECT n FROM t")
	app.want("ok", "UPDATE t SET n=n+1")
	n++
	wantPast(t, w, r, n)
	app.end()
	if resumed, begun := w.lineages(); resumed != 1 || begun != 1 {
		t.Errorf("the capture went on %d times and began %d times, want 1 and 1", resumed, begun)
	}
	w.unmount()

	plain := openAt(t, name)
	if got, err := value(plain, "SELECT n FROM t"); err != nil || got != int64(n) {
		t.Errorf("the plain file has %v, %v, want %d", got, err, n)
	}
	if err := plain.Close(); err != nil {
		t.Error(err)
	}
	out := filepath.Join(filepath.Dir(w.dir), "restored.db")
	restore := exec.Command("walback", "restore", "-o", out, w.url("app.db"))
	restore.Env = w.env
	r.wrap(restore)
	if text, err := restore.CombinedOutput(); err != nil {
		t.Fatalf("restore: %v: %s", err, text)
	}
	wantIntact(t, out)
	if rows := w.log("app.db"); len(rows) < n {
		t.Errorf("history has %d transactions for %d increments", len(rows), n)
	}
}

// wantPast makes sure that the user finds n in the newest instant.
func wantPast(t *testing.T, w *world, r room, n int) {
	t.Helper()
	past := speak(t, filepath.Join(w.history, "app.db/latest/app.db"), r.wrap)
	past.want(fmt.Sprint(n), "SELECT n FROM t")
	past.end()
}

// TestWithoutRootRefused: whoever cannot mount is told why, in one line.
func TestWithoutRootRefused(t *testing.T) {
	for _, c := range []struct {
		device string
		flags  []string
		env    string
		want   string
	}{
		{"600", nil, "", "this user may not open /dev/fuse"},
		{"666", nil, "PATH=/nonexistent", "fusermount3, which is not installed (package fuse3)"},
		{"666", []string{"-allow-other"}, "", "add user_allow_other to /etc/fuse.conf"},
	} {
		t.Run(c.want, func(t *testing.T) {
			if conf, err := os.ReadFile("/etc/fuse.conf"); err == nil && c.flags != nil && strings.Contains("\n"+string(conf), "\nuser_allow_other") {
				t.Skip("this machine lets everybody allow others")
			}
			r := newRoom(t, stranger, c.device)
			if c.env != "" {
				r.env = c.env
			}
			w := newWorldOf(t, r, c.flags...)
			d := w.launch()
			<-d.exited
			w.daemon = nil
			exit, ok := errors.AsType[*exec.ExitError](d.err)
			if !ok || exit.ExitCode() != 1 || exit.Sys().(syscall.WaitStatus).Signaled() {
				t.Errorf("it ended with %v, want exit status 1", d.err)
			}
			said := strings.TrimSuffix(d.log(), "\n")
			if !strings.HasPrefix(said, "walback: ") || !strings.Contains(said, c.want) || strings.Contains(said, "\n") {
				t.Errorf("it says %q, want one line with %q", said, c.want)
			}
		})
	}
}
