// Command walback-generate makes a month of history in minutes:
//
//	walback-generate [-size 1GB] [-transactions 100000] [-days 30] [-interval 1s]
//	                 [-seed 1] [-until TIME] DIR URL
//
// SQLite works on DIR/app.db as an application would; what it commits is read
// from its log, and shipped to URL by the code of a mount. Only the clock is not
// the real one: a commit has the time that a month of an application's life has
// for it, and goes into the segment that a mount would have put it into then.
// DIR can be mounted afterwards, with the same URL; capture goes on.
//
// The database has accounts and events, with an index. A transaction writes 3.7
// pages on average: it changes an account, few of them often and the others all over
// the table, and adds an event or two, whose entries in the index are anywhere.
//
// What a mount has on disk for a moment is in memory here where there is room:
// the spool, which is brought to DIR in the end, and small segments.
//
// It prints what it made as one JSON object. The same flags, TIME included, make
// the same database and the same commits.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/walback/walback/generations"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "walback-generate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	o := options{until: time.Now(), progress: os.Stderr}
	flags := flag.NewFlagSet("walback-generate", flag.ContinueOnError)
	flags.Func("size", "about how large the database is (default 1GB)", func(s string) (err error) {
		o.size, err = parseSize(s)
		return err
	})
	flags.IntVar(&o.transactions, "transactions", 100_000, "how many are committed")
	days := flags.Int("days", 30, "over which they are spread")
	flags.DurationVar(&o.interval, "interval", time.Second, "as of a mount: longer ones make fewer segments, and are made faster")
	flags.Uint64Var(&o.seed, "seed", 1, "another one makes another history")
	flags.Func("until", "`TIME`, RFC 3339, of the last commit at the latest (default now)", func(s string) (err error) {
		o.until, err = time.Parse(time.RFC3339, s)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 || o.transactions < 1 || *days < 1 || o.interval <= 0 {
		flags.Usage()
		return errors.New("give a directory and a URL, and at least one transaction and one day")
	}
	if o.size == 0 {
		o.size = 1 << 30
	}
	o.span = time.Duration(*days) * 24 * time.Hour
	o.dir = flags.Arg(0)
	var err error
	if o.url, err = generations.ParseURL(flags.Arg(1)); err != nil {
		return err
	}
	made, err := generate(ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(made)
}

// parseSize reads a number of bytes such as 10GB, 512MB or 4096.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGB")
	shift, ok := map[string]int{"": 0, "B": 0, "KB": 10, "MB": 20, "GB": 30}[s[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || !ok || n < 1 {
		return 0, fmt.Errorf("%q is no size: write 512MB or 10GB", s)
	}
	return n << shift, nil
}
