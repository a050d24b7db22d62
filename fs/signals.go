package fs

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// signals is a set of them, as /proc shows it.
type signals uint64

func setOf(of ...syscall.Signal) (s signals) {
	for _, n := range of {
		s |= 1 << (n - 1)
	}
	return s
}

var (
	// By these somebody says that a process is to end, also if it handles them.
	ending = setOf(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL, syscall.SIGTERM)
	// These do not end a process that does not handle them.
	harmless = setOf(syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH,
		syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
)

// ToEnd reports whether the process that has made a request is to end. The kernel
// says that a request is interrupted at whatever signal, but only at the first;
// and applications do not expect stat or open to fail because a child has ended or
// a timer has run out: on a disk they never do. Where nothing can be found out
// about the process, it is to end.
func ToEnd(ctx context.Context) bool {
	caller, ok := fuse.FromContext(ctx)
	if !ok || caller.Pid == 0 { // of another namespace
		return true
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", caller.Pid)) // a thread's, in fact
	if err != nil {
		return true
	}
	return toEnd(string(status))
}

func toEnd(status string) bool {
	sets := map[string]signals{}
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64); err == nil {
			sets[name] = signals(n)
		}
	}
	pending := (sets["SigPnd"] | sets["ShdPnd"]) &^ sets["SigBlk"] &^ sets["SigIgn"]
	return pending&ending != 0 || pending&^harmless&^sets["SigCgt"] != 0
}
