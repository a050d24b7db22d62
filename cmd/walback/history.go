package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/fs"
	"github.com/walback/walback/fs/history"
)

// historyCommand is walback history URL DIR.
func (p *program) historyCommand() *cli.Command {
	return &cli.Command{
		Name:      "history",
		Usage:     "serve the past of a replica URL, read-only, on any machine",
		ArgsUsage: "URL DIR",
		Description: "Every instant is a path: DIR/CLIENT/2024-01-14T15:45:00Z/db.sqlite. DIR/README.txt\n" +
			"tells the rest. The command runs until SIGINT or SIGTERM.",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "allow-other", Usage: "let other users in, as far as the mode of DIR does"},
		}, append(cacheFlags(), logFlags()...)...),
		Action: p.history,
	}
}

func (p *program) history(ctx context.Context, cmd *cli.Command) (err error) {
	args, err := wantArgs(cmd)
	if err != nil {
		return err
	}
	u, err := parseReplica(cmd, args[0])
	if err != nil {
		return err
	}
	cacheDir, cacheSize, err := parseCache(cmd)
	if err != nil {
		return err
	}
	logger, err := newLogger(cmd, p.stderr)
	if err != nil {
		return err
	}
	dir, err := fs.Prepare(args[1])
	if err != nil {
		return err
	}
	store, err := openRoot(ctx, u, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeStore(store)) }()
	packs, err := cache.New(store, nil, cache.Options{Dir: cacheDir, MaxBytes: cacheSize})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, packs.Close()) }()
	tree, err := history.Mount(dir, history.Options{
		Store:      store,
		Cache:      packs,
		Now:        p.now,
		Logger:     logger,
		AllowOther: cmd.Bool("allow-other"),
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "mounted %s: the past of %s\n", dir, u)
	select {
	case <-ctx.Done():
		return unmount(p.hurry, tree, p.stderr)
	case <-tree.Done():
		fmt.Fprintf(p.stderr, "%s was unmounted\n", dir)
	}
	return nil
}
