package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// historyCommand makes this program measure what a month of history costs:
//
//	walback-bench history [-size 1GB] [-transactions 100000] [-in DIR] [-o FILE] ...
//
// The history is made by walback-generate, and served by a real S3 server; what
// is counted is counted in front of that.
const historyCommand = "history"

// history is a month of it, and how it is measured.
type history struct {
	*bench
	generate string // program
	size     string
	count    int // transactions
	interval time.Duration
	instants int // that are looked at
	scans    int // of these, how many are read whole
	restores int // and restored
	delay    time.Duration
	limit    time.Duration // for each measure

	at   place // where it is
	made made
	s3   *s3
	r    *rand.Rand
	page int64 // that was read last, from 0 on
}

// made is what walback-generate tells of what it has made.
type made struct {
	Client       string
	Asked        int64 // bytes of the database that were asked for
	PageSize     int
	Pages        int
	Accounts     int
	Transactions int
	Interval     time.Duration
	First, Last  int64 // microseconds

	Compressed, Changes, CompressedChanges int64

	Puts, Gets, Lists, Deletes int64
	Written, Read              int64

	Seconds float64
	Memory  int64 // of the process that made it, at most
}

// measureHistory is walback-bench history.
func measureHistory(ctx context.Context, args []string) (err error) {
	h := &history{bench: &bench{ctx: ctx}, r: newRand()}
	flags := flag.NewFlagSet("walback-bench history", flag.ContinueOnError)
	flags.StringVar(&h.size, "size", "1GB", "of the database")
	flags.IntVar(&h.count, "transactions", 100_000, "in the 30 days")
	flags.DurationVar(&h.interval, "interval", time.Second, "with which they were shipped")
	flags.IntVar(&h.instants, "instants", 20, "how many are looked at")
	flags.IntVar(&h.scans, "scans", 20, "how many of them are read whole")
	flags.IntVar(&h.restores, "restores", 5, "how many of them are restored")
	flags.DurationVar(&h.delay, "delay", 50*time.Millisecond, "added to every request, where that is said")
	flags.DurationVar(&h.limit, "limit", 15*time.Minute, "which no measure may take longer than")
	in := flags.String("in", "", "keep the history in `DIR`, and use the one that is there")
	out := flags.String("o", "", "write the table into `FILE` too")
	generate := flags.String("generate", "bin/walback-generate", "`FILE` that makes the history")
	walback := flags.String("walback", "bin/walback", "`FILE` to measure")
	versitygw := flags.String("versitygw", "", "`FILE` that serves S3 (default: in bin, then on PATH)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || h.instants < 1 || h.scans < 1 || h.restores < 1 {
		return errors.New("history takes no arguments, and at least one instant, scan and restore")
	}
	for name, program := range map[string]*string{*walback: &h.walback, *generate: &h.generate} {
		if *program = find(name, ""); *program == "" {
			return fmt.Errorf("%s: no such program", name)
		}
	}
	if h.versitygw = find(*versitygw, "versitygw"); h.versitygw == "" {
		return errors.New("without versitygw there is no S3 server here")
	}
	if h.dir, err = os.MkdirTemp("", "walback-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(h.dir)) }()
	h.at = place(*in)
	if h.at == "" {
		h.at = place(filepath.Join(h.dir, "history"))
	}
	began := time.Now()
	about, err := h.machine()
	if err != nil {
		return err
	}
	if err := h.make(); err != nil {
		return err
	}
	found, err := h.measure()
	about.took = time.Since(began)
	h.say("done in %s", about.took.Round(time.Second))
	if *out != "" && ctx.Err() == nil {
		err = errors.Join(err, writeHistory(*out, about, h, found))
	}
	return err
}

// summaryFile is where, beside a history, it is said what that is.
func (h *history) summaryFile() string { return h.at.file("history.json") }

// root is where the history's store lies: where the S3 server has it too.
func (h *history) root() string { return filepath.Join(h.at.store(), bucket, storePrefix) }

// make makes the history, unless it is there.
func (h *history) make() error {
	text, err := os.ReadFile(h.summaryFile())
	if errors.Is(err, os.ErrNotExist) {
		if text, err = h.run(); err == nil {
			err = os.WriteFile(h.summaryFile(), text, 0o644)
		}
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &h.made); err != nil {
		return err
	}
	fmt.Printf("a history of %d transactions, %s of pages; the database has %s; made in %s with %d PUTs, %d GETs\n",
		h.made.Transactions, mega(h.made.Changes), mega(h.databaseSize()), duration(h.made.Seconds), h.made.Puts, h.made.Gets)
	return nil
}

// run has the history made.
func (h *history) run() ([]byte, error) {
	place, err := makePlace(string(h.at))
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(h.root())
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(h.ctx, h.generate, "-size", h.size, "-transactions", fmt.Sprint(h.count), "-interval", h.interval.String(), place.data(), "file://"+root)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it tidies up
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", h.generate, err)
	}
	return out.Bytes(), nil
}

func (h *history) databaseSize() int64 { return int64(h.made.Pages) * int64(h.made.PageSize) }

// instant returns a random one, as people write it: any time is as likely.
func (h *history) instant() string {
	at := h.made.First + 1 + h.r.Int64N(h.made.Last-h.made.First)
	return time.UnixMicro(at).UTC().Format("2006-01-02T15:04:05.000000Z")
}

// measure takes all measures and prints what they come to. What fails, or takes
// too long, is a line that says so, and part of the error.
func (h *history) measure() (found []finding, failed error) {
	var err error
	if h.s3, err = startS3(h.ctx, h.versitygw, h.at); err != nil {
		return nil, err
	}
	for _, m := range []struct {
		name string
		take func() ([]finding, error)
	}{
		{"single pages", h.pages},
		{"pages of the newest transaction", h.newestPage},
		{"rows by their key", h.points},
		{"full scans", h.fullScans},
		{"restores", h.restored},
		{"what is stored", h.stored},
		{"quiet", h.quiet},
	} {
		h.say("measuring %s", m.name)
		some, err := h.inTime(m.take)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", m.name, err))
			some = append(slices.DeleteFunc(some, finding.empty), finding{name: m.name, failed: true})
		}
		for _, f := range some {
			fmt.Println(f)
		}
		found = append(found, some...)
		if h.ctx.Err() != nil {
			break
		}
	}
	return found, errors.Join(h.ctx.Err(), failed, h.s3.stop())
}

// inTime takes a measure, during which h.ctx ends when it has taken too long.
func (h *history) inTime(take func() ([]finding, error)) ([]finding, error) {
	outer := h.ctx
	ctx, cancel := context.WithTimeoutCause(outer, h.limit, fmt.Errorf("not done within %s", h.limit))
	defer cancel()
	h.ctx = ctx
	defer func() { h.ctx = outer }()
	found, err := take()
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return found, err
}

// say tells how far it is, on standard error.
func (h *history) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// each calls do n times, and says how far it is now and then.
func (h *history) each(n int, do func() error) error {
	said := time.Now()
	for i := range n {
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			h.say("%d of %d", i, n)
		}
		if err := context.Cause(h.ctx); err != nil {
			return err
		}
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}
