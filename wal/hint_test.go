package wal

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// hinted is a mount that tells a WriteHint of every write to a log, and looks
// whenever, and only when, that says so.
type hinted struct {
	t       *testing.T
	log     string // in the backing directory
	hint    WriteHint
	tracker *Tracker

	mu      sync.Mutex
	looks   int
	commits int
}

func (h *hinted) wrote(off int64, p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.hint.Wrote(off, p) {
		return
	}
	h.looks++
	f, err := os.Open(h.log)
	if err != nil {
		h.t.Error(err)
		return
	}
	defer f.Close()
	if err := h.tracker.Look(f, func(Commit) error { h.commits++; return nil }); err != nil {
		h.t.Error(err)
	}
}

// hintNode is a node of that mount.
type hintNode struct {
	*gofs.LoopbackNode
	hinted *hinted
}

func (n *hintNode) WrapChild(_ context.Context, ops gofs.InodeEmbedder) gofs.InodeEmbedder {
	return &hintNode{ops.(*gofs.LoopbackNode), n.hinted}
}

func (n *hintNode) Open(ctx context.Context, flags uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	f, fl, errno := n.LoopbackNode.Open(ctx, flags)
	return n.wrap(n.Path(nil), f), fl, errno
}

func (n *hintNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*gofs.Inode, gofs.FileHandle, uint32, syscall.Errno) {
	node, f, fl, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return node, n.wrap(name, f), fl, errno
}

func (n *hintNode) wrap(name string, f gofs.FileHandle) gofs.FileHandle {
	if f == nil {
		return nil
	}
	return &hintFile{f.(loopback), n.hinted, strings.HasSuffix(name, "-wal")}
}

// loopback is a file without PassthroughFd, so that writes come through here.
type loopback interface {
	gofs.FileReader
	gofs.FileWriter
	gofs.FileFlusher
	gofs.FileReleaser
	gofs.FileFsyncer
	gofs.FileGetattrer
	gofs.FileSetattrer
}

type hintFile struct {
	loopback
	hinted *hinted
	log    bool
}

func (f *hintFile) Write(ctx context.Context, p []byte, off int64) (uint32, syscall.Errno) {
	n, errno := f.loopback.Write(ctx, p, off)
	if f.log && errno == 0 {
		f.hinted.wrote(off, p[:n])
	}
	return n, errno
}

// mountHinted mounts dir over backing until the test ends.
func mountHinted(t *testing.T, dir, backing string, h *hinted) {
	t.Helper()
	root := &gofs.LoopbackRoot{Path: backing}
	root.RootNode = &hintNode{&gofs.LoopbackNode{RootData: root}, h}
	server, err := gofs.Mount(dir, root.RootNode, &gofs.Options{})
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Errorf("lazy unmount: %v", err)
			}
		}
		server.Wait()
	})
}

// shell is the stock sqlite3 program, which runs one statement after another.
type shell struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

func newShell(t *testing.T, uri string) *shell {
	t.Helper()
	cmd := exec.Command("sqlite3", "-batch", "-bail", uri)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Skipf("no sqlite3 program: %v", err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("sqlite3: %v", err)
		}
	})
	return &shell{t, in, bufio.NewScanner(out)}
}

// run returns when the statements are done.
func (s *shell) run(sql string) {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.in, "%s;\nSELECT 'done';\n", sql); err != nil {
		s.t.Fatal(err)
	}
	for s.out.Scan() {
		if s.out.Text() == "done" {
			return
		}
	}
	s.t.Fatalf("sqlite3 ended in %s: %v", sql, s.out.Err())
}

// Every commit of a real SQLite on a real mount is found at the write that
// completes it: whoever looks when the hint says so has all commits by the time
// SQLite returns from them, and looks in vain next to never.
func TestWriteHintSeesEveryCommit(t *testing.T) {
	const (
		insert = "INSERT INTO t(v) VALUES(randomblob(100))"
		// Eight pages, with a cache of two: frames are written, and overwritten.
		spill    = "INSERT INTO t(v) VALUES(randomblob(8*$PAGE)); UPDATE t SET v=randomblob(8*$PAGE)"
		rollback = "BEGIN; " + spill + "; ROLLBACK"
	)
	steps := []struct {
		sql     string
		commits int
		inVain  int // looks that may find nothing
	}{
		{"CREATE TABLE t(id INTEGER PRIMARY KEY, v)", 1, 0},
		{insert, 1, 0},
		{insert + ";" + insert, 2, 0},
		{"BEGIN; " + spill + "; " + insert + "; COMMIT", 1, 0},
		// What follows a rewritten commit frame may be its page.
		{insert, 1, 1},
		{rollback, 0, 0},
		{"BEGIN; " + insert + "; SAVEPOINT s; " + insert + "; ROLLBACK TO s; " + insert + "; COMMIT", 1, 0},
		{insert, 1, 0},
		{"PRAGMA wal_checkpoint(RESTART)", 0, 0},
		{insert, 1, 0},
		{rollback, 0, 0},
		{insert, 1, 0},
		{"PRAGMA wal_checkpoint(TRUNCATE)", 0, 0},
		{insert, 1, 0},
		{"VACUUM", 1, 0},
	}
	for _, pageSize := range []int{512, 4096, 65536} {
		for _, query := range []string{"", "?psow=0"} {
			t.Run(fmt.Sprint(pageSize, query), func(t *testing.T) {
				dir, backing := t.TempDir(), t.TempDir()
				h := &hinted{t: t, log: backing + "/db.sqlite-wal", tracker: NewTracker(Position{})}
				mountHinted(t, dir, backing, h)
				s := newShell(t, "file:"+dir+"/db.sqlite"+query)
				s.run(fmt.Sprintf("PRAGMA page_size=%d; PRAGMA journal_mode=WAL; PRAGMA cache_size=2; PRAGMA wal_autocheckpoint=0", pageSize))
				for _, step := range steps {
					h.mu.Lock()
					looks, commits := h.looks, h.commits
					h.mu.Unlock()
					s.run(strings.ReplaceAll(step.sql, "$PAGE", fmt.Sprint(pageSize)))
					h.mu.Lock()
					looks, commits = h.looks-looks, h.commits-commits
					h.mu.Unlock()
					if commits != step.commits {
						t.Errorf("%s: %d commits found, want %d", step.sql, commits, step.commits)
					}
					// Each repeated commit frame of a padded log is worth a look.
					if looks > step.commits+step.inVain && query == "" {
						t.Errorf("%s: %d looks for %d commits", step.sql, looks, commits)
					}
				}
			})
		}
	}
}
