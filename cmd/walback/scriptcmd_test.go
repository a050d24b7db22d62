package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/fs"
	"github.com/walback/walback/wal"
)

// What scripts can say besides the commands of testscript itself.

// cmdFails is
//
//	fails STATUS PATTERN PROGRAM ARG...
//
// The program must end with the status, print nothing on stdout, and one line on
// stderr that the pattern matches.
func cmdFails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: fails STATUS PATTERN PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	err = ts.Exec(args[2], args[3:]...)
	status := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	stderr := ts.ReadFile("stderr")
	switch {
	case status != want:
		ts.Fatalf("exit status %d, want %d", status, want)
	case ts.ReadFile("stdout") != "":
		ts.Fatalf("something on stdout")
	case strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "walback: "):
		ts.Fatalf("want one line on stderr that begins with the program's name")
	case !pattern.MatchString(stderr):
		ts.Fatalf("stderr does not match %s", pattern)
	}
}

// cmdMounted is
//
//	mounted DIR...
//
// It waits until walback is mounted on every DIR and answers.
func cmdMounted(ts *testscript.TestScript, neg bool, args []string) {
	waitMounts(ts, args, containsAll)
}

// containsAll reports whether all wanted mounts are there.
func containsAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(dir string) bool { return !slices.Contains(have, dir) })
}

// cmdUnmounted is the opposite of cmdMounted.
func cmdUnmounted(ts *testscript.TestScript, neg bool, args []string) {
	waitMounts(ts, args, func(have, want []string) bool {
		return !slices.ContainsFunc(want, func(dir string) bool { return slices.Contains(have, dir) })
	})
}

// waitMounts is awaitMounts for a script.
func waitMounts(ts *testscript.TestScript, dirs []string, done func(have, want []string) bool) {
	want := make([]string, len(dirs))
	for i, dir := range dirs {
		want[i] = ts.MkAbs(dir)
	}
	ts.Check(awaitMounts(want, done))
}

// awaitMounts waits until done says that the mounts there are, have, are what is
// wanted. The kernel tells of every change (proc_pid_mountinfo(5), poll).
func awaitMounts(want []string, done func(have, want []string) bool) error {
	const patience = 30 * time.Second
	// Not os.Open: the runtime would poll the file too, and each change is told
	// to one of those who poll.
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(table)
	for deadline := time.Now().Add(patience); ; {
		mounts, err := fs.Mounts()
		if err != nil {
			return err
		}
		var have []string
		for _, m := range mounts {
			// A mount whose process was killed is still in the table. Those of others
			// are none of our business, and need not answer.
			if slices.Contains(want, m.Dir) && answers(m.Dir) {
				have = append(have, m.Dir)
			}
		}
		if done(have, want) {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("not as wanted after %s: %q; there is %q", patience, want, have)
		}
		fds := []unix.PollFd{{Fd: int32(table), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// answers reports whether somebody serves the mount on dir. statfs is never
// answered from the kernel's caches.
func answers(dir string) bool {
	for {
		err := unix.Statfs(dir, &unix.Statfs_t{})
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// cmdShip is
//
//	ship DIR
//
// It mounts DIR with the store and ends the mount as soon as it can be used, so
// that what is in DIR is in the store.
func cmdShip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ship DIR")
	}
	dir := ts.MkAbs(args[0])
	ended := make(chan error, 1)
	go func() {
		err := endMount(dir)
		if err != nil {
			err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)) // ends it too
		}
		ended <- err
	}()
	ts.Check(ts.Exec("walback", "mount", dir, ts.Getenv("ROOT"), "-cache-dir", ts.Getenv("CACHE")))
	ts.Check(<-ended)
}

// endMount waits for the live mount on dir and asks it to end.
func endMount(dir string) error {
	if err := awaitMounts([]string{dir}, containsAll); err != nil {
		return err
	}
	s, err := readStatus(dir)
	if err != nil {
		return err
	}
	return unix.Kill(s.PID, unix.SIGTERM)
}

// cmdGeneration is
//
//	generation NAME URL
//
// It sets the variable NAME to the newest generation of the client.
func cmdGeneration(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: generation NAME URL")
	}
	ts.Check(ts.Exec("walback", "generations", "-json", args[1]))
	lines := strings.Split(strings.TrimSpace(ts.ReadFile("stdout")), "\n")
	var row generationRow
	ts.Check(json.Unmarshal([]byte(lines[len(lines)-1]), &row))
	ts.Setenv(args[0], row.Generation)
}

// cmdHold is
//
//	hold FILE
//
// It keeps FILE open until the script ends.
func cmdHold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hold FILE")
	}
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { f.Close() })
}

// cmdInstant is
//
//	instant NAME
//
// It sets the variable NAME to the time it is.
func cmdInstant(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: instant NAME")
	}
	ts.Setenv(args[0], wal.TimeOf(time.Now()).String())
}

// cmdObject is
//
//	object NAME PATTERN
//
// It sets the variable NAME to the last file that matches the glob pattern.
func cmdObject(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: object NAME PATTERN")
	}
	found, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if len(found) == 0 {
		ts.Fatalf("no file matches %s", args[1])
	}
	ts.Setenv(args[0], found[len(found)-1])
}

// cmdFlip is
//
//	flip FILE OFFSET
//
// It flips a bit of the byte at OFFSET, which counts from the end if negative.
func cmdFlip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE OFFSET")
	}
	off, err := strconv.Atoi(args[1])
	ts.Check(err)
	name := ts.MkAbs(args[0])
	content, err := os.ReadFile(name)
	ts.Check(err)
	if off < 0 {
		off += len(content)
	}
	content[off] ^= 0x10
	ts.Check(os.WriteFile(name, content, 0o600))
}

// cmdSignal is
//
//	signal NAME
//
// It sends SIGNAME to every program in the background.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: signal NAME")
	}
	s := unix.SignalNum("SIG" + args[0])
	if s == 0 {
		ts.Fatalf("no signal SIG%s", args[0])
	}
	for _, c := range ts.BackgroundCmds() {
		if err := c.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			ts.Check(fmt.Errorf("signal %s: %w", s, err))
		}
	}
}
