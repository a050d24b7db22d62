// Walback gives SQLite a past: it captures every commit of the databases in a
// directory, ships them to S3 or to another directory, and shows every moment
// since as a path that cp and sqlite3 can open.
//
// This package holds the words typed by people, one file per command: flags,
// what is printed, exit statuses, and how the packages are put together. It is
// the only place that sets up logging.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Exit statuses.
const (
	statusDone   = 0
	statusFailed = 1
	statusUsage  = 2
)

// leaveTimeout is how long a second signal waits for mounts to be detached, so
// that no dead mountpoint stays behind.
const leaveTimeout = time.Second

func main() { os.Exit(supervise(os.Args, os.Stdout, os.Stderr)) }

// supervise runs one command. The first SIGINT or SIGTERM asks it to finish
// cleanly, the second to leave at once.
func supervise(args []string, stdout, stderr io.Writer) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	ctx, finish := context.WithCancelCause(context.Background())
	defer finish(nil)
	hurry, leave := context.WithCancel(context.Background())
	defer leave()

	p := &program{stdout: stdout, stderr: stderr, hurry: hurry, now: time.Now}
	done := make(chan int, 1)
	go func() { done <- p.run(ctx, args) }()

	select {
	case status := <-done:
		return status
	case s := <-signals:
		finish(fmt.Errorf("stopped by %s", signalName(s)))
	}
	select {
	case status := <-done:
		return status
	case <-signals:
		leave()
	}
	select {
	case <-done:
	case <-time.After(leaveTimeout):
	}
	return statusFailed
}

// signalName returns the name of s as people type it.
func signalName(s os.Signal) string {
	switch s {
	case os.Interrupt:
		return "SIGINT"
	case syscall.SIGTERM:
		return "SIGTERM"
	}
	return s.String()
}
