// Command walback-bench measures walback beside a plain directory, and beside
// Litestream where that is found, the same work in turn in one run:
//
//	walback-bench [-quick | -full] [-only REGEXP] [-o FILE] [-walback FILE] [-litestream FILE] [-versitygw FILE]
//	walback-bench history [-size 1GB] [-transactions 100000] [-in DIR] [-o FILE] ...
//
// The second form measures what a month of history costs to keep and to look at.
//
// The work is done by SQLite in a process of its own (worker.go), which is told
// nothing of who looks after its directory. What is printed are ratios: absolute
// times say more about the machine than about anything measured here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == workCommand {
		exit(work(os.Args[2], os.Stdout))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) > 1 && os.Args[1] == historyCommand {
		err = measureHistory(ctx, os.Args[2:])
	} else {
		err = run(ctx, os.Args[1:])
	}
	stop()
	exit(err)
}

func exit(err error) {
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "walback-bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("walback-bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "less of everything, in under a minute, and write no file")
	full := flags.Bool("full", false, "the sizes that others are compared at: 300 MB loaded, a past of 1 GB")
	only := flags.String("only", "", "measure what matches `REGEXP`, and write no file")
	out := flags.String("o", "", "write the table to `FILE` too")
	walback := flags.String("walback", "bin/walback", "`FILE` to measure")
	litestream := flags.String("litestream", "", "`FILE` to compare with (default: in bin, then on PATH)")
	versitygw := flags.String("versitygw", "", "`FILE` that serves S3 where requests are counted (default: in bin, then on PATH)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	pattern, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	b := &bench{ctx: ctx, scale: scaleOf(*quick, *full)}
	if b.walback, err = exec.LookPath(*walback); err != nil {
		return err
	}
	if b.walback, err = filepath.Abs(b.walback); err != nil {
		return err
	}
	b.litestream, b.versitygw = find(*litestream, "litestream"), find(*versitygw, "versitygw")
	if b.dir, err = os.MkdirTemp("", "walback-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	began := time.Now()
	about, err := b.machine()
	if err != nil {
		return err
	}
	beside, err := b.litestreamVersion()
	if err != nil {
		return err
	}
	about.versions = append(about.versions, beside)
	rows, failed := b.all(pattern)
	about.took = time.Since(began)
	if *out != "" && *only == "" && !*quick && ctx.Err() == nil {
		if err := writeReport(*out, about, b.scale, b.sides(), rows); err != nil {
			return err
		}
		fmt.Println("written to", *out)
	}
	return errors.Join(ctx.Err(), failed)
}

// find returns where an optional program is, or "".
func find(name, program string) string {
	candidates := []string{filepath.Join("bin", program), program}
	if name != "" {
		candidates = []string{name}
	}
	for _, c := range candidates {
		if path, err := exec.LookPath(c); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path
			}
		}
	}
	return ""
}
