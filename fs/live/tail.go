package live

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tail tells when a log that is written past the daemon has changed. A log that
// nobody writes to costs nothing but a watch in the kernel (inotify); the first
// write wakes the tail, which then looks at the log's index every millisecond
// until nothing has been committed for a while.
type tail struct {
	logger *slog.Logger
	done   sync.WaitGroup

	mu      sync.Mutex
	events  *os.File // inotify, from the first log on
	fd      int      // of it
	closed  bool
	watched map[uint32]*openFile // by the watch in the kernel, which ends with the first event
	watches map[*openFile]uint32
	active  map[*openFile]time.Time // looked at, and when something was committed last
}

const (
	// tailTick is how often an active log is looked at: a commit's time is off by
	// no more, and shipping it begins no later.
	tailTick = time.Millisecond
	// tailRest is how long nothing is committed before a log rests.
	tailRest = 50 * time.Millisecond
)

func newTail(logger *slog.Logger) *tail {
	return &tail{
		logger: logger, watched: make(map[uint32]*openFile), watches: make(map[*openFile]uint32),
		active: make(map[*openFile]time.Time),
	}
}

// follow begins to tell of f, whose backing file is open as fd.
func (t *tail) follow(f *openFile, fd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, watched := t.watches[f]
	_, active := t.active[f]
	if watched || active || t.closed {
		return
	}
	if t.events == nil {
		if err := t.start(); err != nil {
			t.logger.Error("commits are captured at checkpoints only: the kernel cannot tell of writes", "error", err)
			return
		}
	}
	t.watch(f, procPath(fd))
}

// start begins to listen to the kernel. The caller holds t.mu.
func (t *tail) start() error {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	t.fd, t.events = fd, os.NewFile(uintptr(fd), "inotify")
	t.done.Go(t.run)
	return nil
}

// watch has the kernel tell of the next write to f. Where it cannot, f is
// looked at all the time. The caller holds t.mu.
func (t *tail) watch(f *openFile, path string) bool {
	wd, err := unix.InotifyAddWatch(t.fd, path, unix.IN_MODIFY|unix.IN_ONESHOT)
	if err != nil {
		t.logger.Warn("the kernel cannot tell of writes to this log; it is looked at all the time", "file", path, "error", err)
		t.active[f] = time.Now()
		return false
	}
	t.watched[uint32(wd)], t.watches[f] = f, uint32(wd)
	return true
}

// leave ends following f.
func (t *tail) leave(f *openFile) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.active, f)
	wd, ok := t.watches[f]
	if !ok {
		return
	}
	t.drop(wd)
	if t.closed {
		return // and the watches have ended with it
	}
	if _, err := unix.InotifyRmWatch(t.fd, wd); err != nil && !errors.Is(err, unix.EINVAL) {
		t.logger.Warn("inotify", "error", err)
	}
}

// drop forgets a watch. The caller holds t.mu.
func (t *tail) drop(wd uint32) *openFile {
	f := t.watched[wd]
	delete(t.watched, wd)
	if f != nil && t.watches[f] == wd {
		delete(t.watches, f)
	}
	return f
}

// run tells until close.
func (t *tail) run() {
	buf := make([]byte, 64<<10)
	for {
		deadline := time.Time{}
		if t.busy() {
			deadline = time.Now().Add(tailTick)
		}
		if err := t.events.SetReadDeadline(deadline); err != nil {
			return // closed
		}
		n, err := t.events.Read(buf)
		switch {
		case err == nil:
			t.wake(buf[:n])
		case !errors.Is(err, os.ErrDeadlineExceeded):
			if !errors.Is(err, os.ErrClosed) {
				t.logger.Error("commits may be seen late: inotify failed", "error", err)
			}
			return
		}
		t.look()
	}
}

func (t *tail) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.active) > 0
}

// wake makes logs active that events tell of.
func (t *tail) wake(events []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for len(events) >= unix.SizeofInotifyEvent {
		wd := binary.NativeEndian.Uint32(events)
		mask := binary.NativeEndian.Uint32(events[4:])
		length := binary.NativeEndian.Uint32(events[12:])
		events = events[unix.SizeofInotifyEvent+length:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for f := range t.watches {
				t.active[f] = now
			}
			continue
		}
		if f := t.drop(wd); f != nil {
			t.active[f] = now
		}
	}
}

// look looks at every active log, and lets those rest where nothing happens.
func (t *tail) look() {
	t.mu.Lock()
	files := make([]*openFile, 0, len(t.active))
	for f := range t.active {
		files = append(files, f)
	}
	t.mu.Unlock()
	for _, f := range files {
		committed, path := f.wasWritten()
		if t.rests(f, committed, path) {
			// What was committed before the watch; and the log may have another name.
			if committed, now := f.wasWritten(); committed || now != path {
				t.rouse(f)
			} else {
				f.rest()
			}
		}
	}
}

// rests notes what came of looking at f, and returns true when it is not active
// any more.
func (t *tail) rests(f *openFile, committed bool, path string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	since, ok := t.active[f]
	switch {
	case !ok: // left meanwhile
		return false
	case path == "": // it has no name any more
	case committed:
		t.active[f] = now
		return false
	case now.Sub(since) <= tailRest || !t.watch(f, path):
		return false
	}
	delete(t.active, f)
	return path != ""
}

// rouse makes f active again.
func (t *tail) rouse(f *openFile) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.watches[f]; ok {
		t.active[f] = time.Now()
	}
}

// close ends run.
func (t *tail) close() {
	t.mu.Lock()
	events := t.events
	t.closed = true
	t.mu.Unlock()
	if events != nil {
		events.Close() // nothing was written
		t.done.Wait()
	}
}

// rest lets go of what is only open for looking all the time.
func (f *openFile) rest() {
	p := f.lock()
	defer p.unlock()
	if p.d != nil {
		p.d.closeIndex()
	}
}

// wasWritten looks what writing to f has come to, and reports whether something
// was committed. It also returns where f is, "" when that does not matter.
func (f *openFile) wasWritten() (bool, string) {
	p := f.lock()
	defer p.unlock()
	d := p.d
	if d == nil {
		return false, ""
	}
	switch p.role {
	case roleLog:
		if d.phase == idle {
			d.takeIn()
		}
		before := d.last.ID
		d.look()
		return d.last.ID != before, d.logFile()
	case rolePlain: // what is written to a log of another name gets here by a checkpoint
		d.writtenPast()
		return false, d.file()
	}
	return false, ""
}
