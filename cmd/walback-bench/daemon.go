package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// daemon is a process that looks after a directory.
type daemon struct {
	cmd   *exec.Cmd
	mount string // the directory it mounts on, or ""

	mu     sync.Mutex
	said   []string      // on stderr and stdout
	saying chan struct{} // closed when it says more
	ended  chan struct{} // closed when it has
	err    error         // of Wait; read it once ended is closed
}

// patience is how long anything may take that is not measured.
const patience = 2 * time.Minute

func startDaemon(mount, program string, args ...string) (*daemon, error) {
	d := &daemon{cmd: exec.Command(program, args...), mount: mount,
		saying: make(chan struct{}), ended: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	d.cmd.Stdout, d.cmd.Stderr = w, w
	// Should this process be killed, nobody is left to unmount.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	err = d.cmd.Start()
	err = errors.Join(err, w.Close())
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	go d.listen(r)
	return d, nil
}

// listen takes down what d says until it ends.
func (d *daemon) listen(r io.ReadCloser) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		d.mu.Lock()
		d.said = append(d.said, lines.Text())
		close(d.saying)
		d.saying = make(chan struct{})
		d.mu.Unlock()
	}
	d.err = errors.Join(lines.Err(), r.Close(), d.cmd.Wait())
	close(d.ended)
}

// says waits until d has said a line that begins with prefix.
func (d *daemon) says(ctx context.Context, prefix string) error {
	late := time.After(patience)
	for {
		d.mu.Lock()
		saying := d.saying
		for _, line := range d.said {
			if strings.HasPrefix(line, prefix) {
				d.mu.Unlock()
				return nil
			}
		}
		d.mu.Unlock()
		select {
		case <-saying:
		case <-d.ended:
			return fmt.Errorf("it ended: %w: %s", d.err, d.last())
		case <-late:
			return errors.Join(fmt.Errorf("it did not say %q within %s: %s", prefix, patience, d.last()), d.kill())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), d.stop())
		}
	}
}

// last returns what d said last.
func (d *daemon) last() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.said[max(0, len(d.said)-5):], "; ")
}

// until waits until ready returns true, and ends d if it does not.
func (d *daemon) until(ctx context.Context, ready func() (bool, error)) error {
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		ok, err := ready()
		switch {
		case err == nil && ok:
			return nil
		case err == nil && ctx.Err() != nil:
			err = ctx.Err()
		case err == nil && time.Since(began) > patience:
			err = fmt.Errorf("not ready within %s: %s", patience, d.last())
		}
		if err != nil {
			return errors.Join(err, d.stop())
		}
	}
}

// stop ends d the way a user does, and returns when everything is shipped. A nil
// daemon is not there to be stopped.
func (d *daemon) stop() error {
	if d == nil {
		return nil
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.ended:
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("it did not end within %s of SIGTERM: %s", patience, d.last()), d.kill())
	}
	if d.err != nil {
		return fmt.Errorf("it ended badly: %w: %s", d.err, d.last())
	}
	return nil
}

// kill ends d at once, and takes its mount away.
func (d *daemon) kill() error {
	err := d.killOnly()
	if d.mount != "" {
		if e := unix.Unmount(d.mount, unix.MNT_DETACH); e != nil && e != unix.EINVAL {
			err = errors.Join(err, runQuietly(exec.Command("fusermount3", "-u", "-z", d.mount)))
		}
	}
	return err
}

// killOnly ends d at once and leaves what it has mounted, as a crash does.
func (d *daemon) killOnly() error {
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-d.ended
	return nil
}

// usage is what a process has used and holds.
type usage struct {
	cpu         time.Duration
	resident    int64 // bytes
	descriptors int
}

func (d *daemon) usage() (u usage, err error) {
	proc := "/proc/" + strconv.Itoa(d.cmd.Process.Pid)
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return u, err
	}
	// proc_pid_stat(5): utime, stime and rss are fields 14, 15 and 24, counted
	// from the process's name, which may hold anything but a closing parenthesis.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var numbers [3]int64
	for i, field := range []int{14, 15, 24} {
		if numbers[i], err = strconv.ParseInt(fields[field-3], 10, 64); err != nil {
			return u, fmt.Errorf("%s/stat: %w", proc, err)
		}
	}
	const tick = time.Second / 100 // USER_HZ, the same on every architecture Go runs on
	u.cpu = time.Duration(numbers[0]+numbers[1]) * tick
	u.resident = numbers[2] * int64(os.Getpagesize())
	open, err := os.ReadDir(proc + "/fd")
	u.descriptors = len(open)
	return u, err
}
