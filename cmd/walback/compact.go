package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
)

// compactRow is a line of walback compact.
type compactRow struct {
	Client     string `json:"client"`
	Generation string `json:"generation"`
	Merged     int    `json:"merged"`
	Into       int    `json:"into"`
	Leftovers  int    `json:"leftovers"` // of earlier merges
	Segments   int    `json:"segments"`  // that make up the generation now
	Maps       int    `json:"maps"`      // made of them
}

// compactCommand is walback compact URL[/CLIENT].
func (p *program) compactCommand() *cli.Command {
	return &cli.Command{
		Name:      "compact",
		Usage:     "merge the segments of one client, or all, into few, and map them",
		ArgsUsage: "URL",
		Description: "A mount does this by itself, for what it ships. Every transaction stays; what has\n" +
			"been merged is deleted after -grace, so that what is reading it can end. Mounts\n" +
			"may go on meanwhile, and other compactions. Interrupt it whenever you like: the\n" +
			"next one goes on.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "grace", Value: generations.Grace, Usage: "delete what has been merged after `TIME`; less is only right when nobody else reads or writes the store"},
			jsonFlag(),
		},
		Action: p.compact,
	}
}

func (p *program) compact(ctx context.Context, cmd *cli.Command) error {
	args, err := wantArgs(cmd)
	if err != nil {
		return err
	}
	grace := cmd.Duration("grace")
	if grace < 0 {
		return misuse(cmd, "-grace %s: want a time of zero or more", grace)
	}
	u, err := parseReplica(cmd, args[0])
	if err != nil {
		return err
	}
	u, only, err := findRoot(ctx, u)
	if err != nil {
		return err
	}
	store, err := openStore(ctx, u, false)
	if err != nil {
		return err
	}
	packs, err := cache.New(store, nil, cache.Options{})
	if err != nil {
		return errors.Join(err, closeStore(store))
	}
	c := generations.NewCompaction(store, grace, packs)
	err = p.compactClients(ctx, cmd, c, store, only)
	// Whatever happened, what has been merged can be deleted.
	if n, wait := c.Replaced(); n > 0 && ctx.Err() == nil {
		if wait > 0 {
			fmt.Fprintf(p.stderr, "%d segments that have become part of others will be deleted in %s\n", n, ageText(wait))
		}
		deleting := c.Delete(ctx)
		if errors.Is(deleting, generations.ErrDenied) {
			fmt.Fprintf(p.stderr, "what has become part of other segments stays in the store: %s\n", oneLine(deleting))
			deleting = nil
		}
		err = errors.Join(err, deleting)
	}
	return errors.Join(err, packs.Close(), closeStore(store))
}

// compactClients merges what there is of one client, or with "" of all.
func (p *program) compactClients(ctx context.Context, cmd *cli.Command, c *generations.Compaction, store generations.Store, only string) error {
	list := newListing(p.stdout, cmd.Bool("json"),
		column[compactRow]{"CLIENT", func(r compactRow) string { return r.Client }},
		column[compactRow]{"GENERATION", func(r compactRow) string { return r.Generation }},
		column[compactRow]{"MERGED", func(r compactRow) string { return strconv.Itoa(r.Merged) }},
		column[compactRow]{"INTO", func(r compactRow) string { return strconv.Itoa(r.Into) }},
		column[compactRow]{"LEFTOVERS", func(r compactRow) string { return strconv.Itoa(r.Leftovers) }},
		column[compactRow]{"SEGMENTS", func(r compactRow) string { return strconv.Itoa(r.Segments) }},
		column[compactRow]{"MAPS", func(r compactRow) string { return strconv.Itoa(r.Maps) }},
	)
	clients := generations.Clients(ctx, store)
	if only != "" {
		clients = func(yield func(string, error) bool) { yield(only, nil) }
	}
	found := false
	var failed []error // must not keep the other clients from being merged
	for client, err := range clients {
		if err != nil {
			return errors.Join(err, list.end())
		}
		found = true
		made, err := c.Merge(ctx, client)
		for _, m := range made {
			if err := list.add(compactRow{client, m.Generation.String(), m.Merged, m.Into, m.Leftovers, m.Segments, m.Maps}); err != nil {
				return err
			}
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", client, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	if !found {
		fmt.Fprintf(p.stderr, "walback compact: no database under %s\n", store)
	}
	return errors.Join(errors.Join(failed...), list.end())
}
