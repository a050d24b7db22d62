package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/walback/walback/generations/storetest"
	"github.com/walback/walback/wal"
)

// fossil is the version control system of SQLite's authors, which keeps a
// project in one SQLite database: a real server application.
type fossil struct {
	t       *testing.T
	program string
	env     []string
}

func newFossil(t *testing.T) *fossil {
	t.Helper()
	program, err := exec.LookPath("fossil")
	if err != nil {
		if os.Getenv("WALBACK_REQUIRE_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	home := t.TempDir()
	return &fossil{t, program, append(os.Environ(), "HOME="+home, "FOSSIL_HOME="+home, "FOSSIL_USER=alice")}
}

// run runs a command of fossil in dir and returns what it prints.
func (f *fossil) run(dir string, args ...string) string {
	f.t.Helper()
	cmd := exec.CommandContext(f.t.Context(), f.program, args...)
	cmd.Dir, cmd.Env = dir, f.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("fossil %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// serve starts a server of the repository and returns its URL, for alice, and
// what ends it.
func (f *fossil) serve(repository, password string) (url string, end func()) {
	f.t.Helper()
	cmd := exec.Command(f.program, "server", "--localhost", repository)
	cmd.Env = f.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	type listening struct {
		said string
		err  error
	}
	said, exited := make(chan listening, 1), make(chan struct{})
	go func() {
		defer close(exited)
		runtime.LockOSThread() // the kernel takes the thread for the parent
		if err := cmd.Start(); err != nil {
			said <- listening{err: err}
			return
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		said <- listening{line, err}
		_ = cmd.Wait() // it is told to end by a signal
	}()
	end = sync.OnceFunc(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			f.t.Error(err)
		}
		<-exited
	})
	l := <-said
	port := regexp.MustCompile(`TCP port (\d+)`).FindStringSubmatch(l.said)
	if port == nil {
		f.t.Fatalf("fossil server says %q, %v", l.said, l.err)
	}
	f.t.Cleanup(end)
	return fmt.Sprintf("http://alice:%s@127.0.0.1:%s/", password, port[1]), end
}

// checkins returns how many check-ins fossil finds in a repository.
func (f *fossil) checkins(repository string) int {
	f.t.Helper()
	info := f.run("/", "info", "-R", repository)
	count := regexp.MustCompile(`(?m)^check-ins: +(\d+)$`).FindStringSubmatch(info)
	if count == nil {
		f.t.Fatalf("fossil info prints no number of check-ins:\n%s", info)
	}
	n, err := strconv.Atoi(count[1])
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// checkout is a working copy of a project on a server.
type checkout struct {
	*fossil
	dir string
}

// clone clones the project at url and opens the clone.
func (f *fossil) clone(url string) checkout {
	f.t.Helper()
	c := checkout{f, f.t.TempDir()}
	repository := filepath.Join(f.t.TempDir(), "clone.fossil")
	f.run(c.dir, "clone", "--save-http-password", url, repository)
	f.run(c.dir, "open", repository)
	return c
}

// commit makes a check-in and sends it to the server.
func (c checkout) commit(name, content string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.run(c.dir, "add", name)
	c.run(c.dir, "commit", "--no-warnings", "-m", "add "+name)
	c.run(c.dir, "push") // a commit does so too, but succeeds where that fails
}

// TestFossil: a server that nobody here wrote works in a mounted directory, and
// opens the past of its database itself, from the live mount's history and
// from the store alone.
func TestFossil(t *testing.T) {
	const password = "secret"
	f := newFossil(t)
	w := newWorld(t, storetest.Versitygw(t).URL("databases"))
	w.mount()
	if err := os.Mkdir(filepath.Join(w.dir, "team"), 0o755); err != nil {
		t.Fatal(err)
	}
	repository := filepath.Join(w.dir, "team", "project.fossil")
	f.run(w.dir, "init", "-A", "alice", repository)
	f.run(w.dir, "rebuild", "--wal", repository)
	if mode := f.run(w.dir, "sql", "-R", repository, "PRAGMA journal_mode"); mode != "'wal'\n" {
		t.Fatalf("the repository is in journal mode %q", mode)
	}
	f.run(w.dir, "user", "password", "alice", password, "-R", repository)

	url, end := f.serve(repository, password)
	work := f.clone(url)
	type instant struct {
		time     wal.Time
		checkins int // the first was made by init
	}
	var instants []instant
	for i := range 3 {
		for range i + 1 {
			n := f.checkins(repository)
			work.commit(fmt.Sprintf("file%d", n), strings.Repeat(fmt.Sprintf("content %d\n", n), 2000))
		}
		instants = append(instants, instant{wal.TimeOf(time.Now()), f.checkins(repository)})
	}
	if last := instants[2].checkins; last != 1+1+2+3 {
		t.Fatalf("the server has %d check-ins", last)
	}

	check := func(history string) {
		t.Helper()
		for _, at := range instants {
			past := filepath.Join(history, "team", "project.fossil", at.time.String(), "project.fossil")
			if n := f.checkins(past); n != at.checkins {
				t.Errorf("fossil finds %d check-ins in %s, want %d", n, past, at.checkins)
			}
			timeline := f.run("/", "timeline", "-n", "0", "-t", "ci", "-R", past)
			for n := 1; n < instants[2].checkins; n++ {
				if had := strings.Contains(timeline, fmt.Sprintf(" add file%d ", n)); had != (n < at.checkins) {
					t.Errorf("of check-in %d of %d the timeline says %t:\n%s", n, at.checkins, had, timeline)
				}
			}
			// Every artifact is read, and its hash compared with its name.
			if said := f.run("/", "test-integrity", "-R", past); !strings.Contains(said, "low-level database integrity-check: ok") {
				t.Errorf("fossil on the integrity of %s:\n%s", past, said)
			}
		}
	}
	check(w.history)

	// A copy of the past is a repository to work with.
	copied, opened := filepath.Join(t.TempDir(), "copy.fossil"), t.TempDir()
	past := filepath.Join(w.history, "team", "project.fossil", instants[0].time.String(), "project.fossil")
	if out, err := exec.Command("cp", past, copied).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	f.run(opened, "open", "--nosync", copied)
	if content, err := os.ReadFile(filepath.Join(opened, "file1")); err != nil || !strings.HasPrefix(string(content), "content 1\n") {
		t.Errorf("file1 of the copy: %.20q, %v", content, err)
	}
	if _, err := os.Stat(filepath.Join(opened, "file2")); err == nil {
		t.Error("the copy has a file of later")
	}

	end()
	w.unmount()
	check(w.serveHistory())
	if n := f.checkins(repository); n != instants[2].checkins {
		t.Errorf("the plain files have %d check-ins", n)
	}
}
