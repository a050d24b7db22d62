package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mode is how reads and writes of a database in WAL mode get to the plain files:
// a flag of walback mount.
type mode string

const (
	// intercepted: through the daemon, which sees a commit before COMMIT returns.
	intercepted mode = "-passthrough=false"
	// passed: the kernel passes them on. The daemon looks at the log when it is
	// woken, or when it is asked for anything.
	passed mode = "-passthrough=true"
)

// inModes runs test in both.
func inModes(t *testing.T, test func(t *testing.T, m mode)) {
	t.Run("intercepted", func(t *testing.T) { test(t, intercepted) })
	t.Run("passed", func(t *testing.T) { test(t, passed) })
}

// looks returns the mount that an application has to ask, see awaitLook, so that
// the time of a commit lies within what it takes for the commit. It is "" where
// that is so anyway.
func (w *world) looks() string {
	if w.mode == passed {
		return w.dir
	}
	return ""
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
