package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// The application is this program again, in a process of its own: a process that
// maps the wal-index of a mount it serves itself would wait for itself.

// workCommand makes this program an application: its second argument is a job.
const workCommand = "work"

// job is what an application is to do to a database.
type job struct {
	Do          string
	DB          string
	Synchronous string        // NORMAL or FULL
	Rows        int           // in a transaction
	For         time.Duration // how long, or
	Count       int           // how often
	Bytes       int64
	ReadOnly    bool
	EmptyLog    bool   // nothing is written beforehand
	Store       string // where to watch for what is shipped
	Side        string // whose store that is
}

// result is what came of it.
type result struct {
	Count   int
	Seconds float64
	Times   []float64 // seconds, ascending: of each commit, or whatever was waited for
	CPU     float64   // seconds, of the application
	Log     int64     // bytes of the -wal that is left before the database is closed
	Newest  int       // row
	Pairs   []pair
}

// pair is two commits and an instant between them.
type pair struct {
	First   int // row of the first one
	Between time.Time
}

// rate is how often it was done in a second.
func (r result) rate() float64 { return float64(r.Count) / r.Seconds }

// jobs by name.
var jobs = map[string]func(job, io.Writer) (result, error){
	"create":    createDatabase,
	"databases": createDatabases,
	"fill":      fillDatabase,
	"commits":   commitAtFullSpeed,
	"load":      loadInBulk,
	"reads":     readPoints,
	"isolated":  commitAlone,
	"ticks":     commitEveryTick,
	"pairs":     commitInPairs,
	"newest":    readNewest,
	"first row": readFirstRow,
	"account":   readAccount,
	"scan":      scanAll,
}

// work does the job and prints the result.
func work(text string, out io.Writer) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	do, ok := jobs[j.Do]
	if !ok {
		return fmt.Errorf("no job %q", j.Do)
	}
	r, err := do(j, out)
	if err != nil {
		return fmt.Errorf("%s: %w", j.Do, err)
	}
	slices.Sort(r.Times)
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return err
	}
	if r.CPU == 0 {
		r.CPU = cpuTime(self)
	}
	return json.NewEncoder(out).Encode(r)
}

// cpuTime returns the seconds in u.
func cpuTime(u syscall.Rusage) float64 {
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// command returns the application that does j.
func (j job) command(ctx context.Context) (*exec.Cmd, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, workCommand, string(text))
	// A signal from the terminal is for the measuring process, which ends this one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

// do has an application do j.
func (b *bench) do(j job) (r result, err error) {
	cmd, err := j.command(b.ctx)
	if err != nil {
		return r, err
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return r, errors.Join(b.ctx.Err(), fmt.Errorf("the application: %w: %s", err, bytes.TrimSpace(said.Bytes())))
	}
	return r, json.Unmarshal(out.Bytes(), &r)
}

// lookedAfter has an application do j in a new place, with a database that exists
// already and somebody who looks after it.
func (b *bench) lookedAfter(s side, at place, prepare, j job) (r result, err error) {
	prepare.DB, j.DB = at.db(), at.db()
	if _, err := b.do(prepare); err != nil {
		return r, err
	}
	d, err := s.start(b.ctx, at)
	if err != nil {
		return r, err
	}
	r, err = b.do(j)
	return r, errors.Join(err, d.stop())
}
