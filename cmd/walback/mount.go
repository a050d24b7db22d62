package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v3"

	"github.com/walback/walback/generations"
)

// mountOptions are what the command line of walback mount says.
type mountOptions struct {
	dir     string // absolute
	url     generations.URL
	backing string // absolute; "" is dir itself
	history string // absolute; "" is no history mount

	cacheDir   string
	cacheSize  int64              // bytes
	interval   time.Duration      // between the segments of a busy database
	spoolLimit int64              // bytes; 0 is the default
	retain     generations.Policy // nil: everything is kept
	shutdown   time.Duration      // how long a clean unmount may take
	allowOther bool
	pass       bool // reads and writes past the daemon
}

// mountCommand is walback mount DIR URL.
func (p *program) mountCommand() *cli.Command {
	return &cli.Command{
		Name:      "mount",
		Usage:     "serve a directory, capture every commit in it and ship it",
		ArgsUsage: "DIR URL",
		Description: "DIR is mounted over itself: the plain files stay underneath, and unmounting leaves\n" +
			"an ordinary directory of ordinary SQLite files. The command runs until SIGINT or\n" +
			"SIGTERM; it then unmounts and ships what is captured. A second signal leaves at\n" +
			"once: what is not shipped stays in DIR/.walback, for the next mount to ship.\n" +
			"\n" +
			"URL is s3://bucket/prefix[?endpoint=URL&region=NAME&path-style=true], with the\n" +
			"credentials that the AWS command line would use, or file:///directory.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "history", Usage: "also serve the past, on `DIR`"},
			&cli.StringFlag{Name: "backing", Usage: "keep the plain files in `DIR` instead of underneath"},
			&cli.DurationFlag{Name: "interval", Value: time.Second, Usage: "in the long run, ship a busy database once in `TIME`: each time is a PUT request. An isolated commit is shipped at once, and a burst in short order"},
			&cli.StringFlag{Name: "spool-limit", Usage: "while the store is down, keep at most `SIZE` of commits in DIR/.walback; what is committed beyond it is not recorded", DefaultText: "a tenth of the filesystem, from 64 MiB to 16 GiB"},
			&cli.StringFlag{Name: "retain", Usage: "once a day, prune all that is below URL by `POLICY`, as walback prune does", DefaultText: "everything is kept"},
			&cli.DurationFlag{Name: "shutdown-timeout", Value: 30 * time.Second, Usage: "ship for at most `TIME` when unmounting"},
			&cli.BoolFlag{Name: "passthrough", Value: true, Usage: "have the kernel pass reads and writes of databases in WAL mode on to the plain files where it can (Linux 6.9, root): much faster. With -passthrough=false each goes through walback, and the time of a commit is exact with synchronous=NORMAL too, where it is otherwise that at which it was seen: a millisecond later, more on a busy machine"},
			&cli.BoolFlag{Name: "allow-other", Usage: "let other users in, as far as the files' modes do, and into -history as far as that directory's does"},
		}, append(cacheFlags(), logFlags()...)...),
		Action: p.mount,
	}
}

// cacheFlags say what a mount keeps of what it has fetched.
func cacheFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "cache-dir", Usage: "keep what the history mount fetches in `DIR`", DefaultText: "the user's cache directory"},
		&cli.StringFlag{Name: "cache-size", Value: "1GiB", Usage: "keep at most `SIZE` of it"},
	}
}

func (p *program) mount(ctx context.Context, cmd *cli.Command) error {
	o, err := parseMount(cmd)
	if err != nil {
		return err
	}
	logger, err := newLogger(cmd, p.stderr)
	if err != nil {
		return err
	}
	m, err := openMount(ctx, o, logger, p.now)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stderr, m.ready())
	select {
	case <-ctx.Done():
	case <-m.live.Done():
		fmt.Fprintf(p.stderr, "%s was unmounted\n", o.dir)
	}
	return m.close(p.hurry, p.stderr)
}

func parseMount(cmd *cli.Command) (mountOptions, error) {
	args, err := wantArgs(cmd)
	if err != nil {
		return mountOptions{}, err
	}
	o := mountOptions{
		interval:   cmd.Duration("interval"),
		shutdown:   cmd.Duration("shutdown-timeout"),
		allowOther: cmd.Bool("allow-other"),
		pass:       cmd.Bool("passthrough"),
	}
	switch {
	case o.interval <= 0:
		return o, misuse(cmd, "-interval %s: want a time above zero", o.interval)
	case o.shutdown < 0:
		return o, misuse(cmd, "-shutdown-timeout %s: want a time of zero or more", o.shutdown)
	}
	if o.url, err = parseReplica(cmd, args[1]); err != nil {
		return o, err
	}
	if o.retain, err = parseRetain(cmd); err != nil {
		return o, err
	}
	if o.cacheDir, o.cacheSize, err = parseCache(cmd); err != nil {
		return o, err
	}
	if limit := cmd.String("spool-limit"); limit != "" {
		if o.spoolLimit, err = parseSize(cmd, "spool-limit", limit); err != nil {
			return o, err
		}
	}
	for _, d := range []struct {
		into *string
		name string
	}{{&o.dir, args[0]}, {&o.backing, cmd.String("backing")}, {&o.history, cmd.String("history")}} {
		if *d.into, err = absolute(d.name); err != nil {
			return o, err
		}
	}
	return o, o.check(cmd)
}

// check refuses directories that would end up in each other: a store, cache or
// history inside the mount would be served by the mount that serves them.
func (o mountOptions) check(cmd *cli.Command) error {
	inside := []struct{ what, dir string }{{"-history", o.history}, {"-backing", o.backing}, {"-cache-dir", o.cacheDir}}
	if o.url.Scheme == "file" {
		inside = append(inside, struct{ what, dir string }{"the store", o.url.Dir})
	}
	for _, i := range inside {
		if i.dir != "" && within(i.dir, o.dir) {
			return misuse(cmd, "%s %s lies in the mount %s itself: choose a directory outside", i.what, i.dir, o.dir)
		}
	}
	if o.history != "" && within(o.dir, o.history) {
		return misuse(cmd, "%s lies in -history %s: choose directories apart", o.dir, o.history)
	}
	return nil
}

// parseCache returns where the cache is and how many bytes it may hold.
func parseCache(cmd *cli.Command) (string, int64, error) {
	size, err := parseSize(cmd, "cache-size", cmd.String("cache-size"))
	if err != nil {
		return "", 0, err
	}
	dir := cmd.String("cache-dir")
	if dir == "" {
		if dir, err = defaultCacheDir(); err != nil {
			return "", 0, err
		}
	}
	dir, err = absolute(dir)
	return dir, size, err
}

// parseSize returns how many bytes the value of a flag says.
func parseSize(cmd *cli.Command, flag, value string) (int64, error) {
	size, err := humanize.ParseBytes(value)
	if err != nil || size == 0 || size > 1<<60 {
		return 0, misuse(cmd, "-%s %q: want a size such as 500MiB or 10GiB", flag, value)
	}
	return int64(size), nil
}

// defaultCacheDir is /var/cache/walback for root, and the user's own otherwise.
func defaultCacheDir() (string, error) {
	if os.Getuid() == 0 {
		return "/var/cache/walback", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w: name a directory with -cache-dir", err)
	}
	return filepath.Join(dir, "walback"), nil
}

// absolute makes a path absolute and follows the links in it as far as it
// exists. "" stays "".
func absolute(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	name, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(name)
	if errors.Is(err, os.ErrNotExist) && filepath.Dir(name) != name {
		parent, err := absolute(filepath.Dir(name))
		return filepath.Join(parent, filepath.Base(name)), err
	}
	if err != nil {
		// A mount that a killed process left, or no permission: whoever uses the
		// path will say what is wrong with it.
		return name, nil
	}
	return real, nil
}

// within reports whether the path inner is outer or below it.
func within(inner, outer string) bool {
	rel, err := filepath.Rel(outer, inner)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
