package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walback/walback/generations/storetest"
)

// mode is how reads and writes of a database in WAL mode get to the plain files.
type mode string

const (
	// intercepted: through the daemon, which sees a commit before COMMIT returns.
	intercepted mode = "intercepted"
	// passed: the kernel passes them on. The daemon looks at the log when it is
	// woken, or when it is asked for anything.
	passed mode = "passed"
)

// flag returns the flag of walback mount.
func (m mode) flag() string { return fmt.Sprintf("-passthrough=%t", m == passed) }

// inModes runs test in both, when t has done all that it does by itself: at the
// same time, because most of what takes long is a process that does not fill two
// processors.
func inModes(t *testing.T, test func(t *testing.T, m mode)) {
	storetest.Environment(t)
	for _, m := range []mode{intercepted, passed} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			test(t, m)
		})
	}
}

// looks returns the mount that an application has to ask, see awaitLook, so that
// the time of a commit lies within what it takes for the commit. It is "" where
// that is so anyway.
func (w *world) looks() string {
	if w.mode == intercepted {
		return ""
	}
	return w.dir
}

// awaitLook returns when the daemon of a mount has looked at the logs that are
// written past it. What was committed in front has a time in front; without, it
// may have one shortly afterwards.
func awaitLook(mount string) error {
	if mount == "" {
		return nil
	}
	_, err := os.ReadFile(filepath.Join(mount, statusFile))
	return err
}

// needPassing skips a test of a daemon that does not do what the mode says.
func (d *daemon) needPassing(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(d.log()) {
		if strings.Contains(line, "the kernel cannot pass them on") {
			t.Skip(line)
		}
	}
}
