package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v3"

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

func (p *program) compact(ctx context.Context, cmd *cli.Command) (err error) {
	args, err := wantArgs(cmd)
	if err != nil {
		return err
	}
	grace := cmd.Duration("grace")
	if grace < 0 {
		return misuse(cmd, "-grace %s: want a time of zero or more", grace)
	}
	clients, err := openClients(ctx, cmd, args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clients.Close()) }()
	c := generations.NewCompaction(clients.store, grace, clients.packs)
	err = p.compactClients(ctx, cmd, c, clients)
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
	return err
}

// compactClients merges what there is of clients.
func (p *program) compactClients(ctx context.Context, cmd *cli.Command, c *generations.Compaction, of *clients) error {
	list := newListing(p.stdout, cmd.Bool("json"),
		column[compactRow]{"CLIENT", func(r compactRow) string { return r.Client }},
		column[compactRow]{"GENERATION", func(r compactRow) string { return r.Generation }},
		column[compactRow]{"MERGED", func(r compactRow) string { return strconv.Itoa(r.Merged) }},
		column[compactRow]{"INTO", func(r compactRow) string { return strconv.Itoa(r.Into) }},
		column[compactRow]{"LEFTOVERS", func(r compactRow) string { return strconv.Itoa(r.Leftovers) }},
		column[compactRow]{"SEGMENTS", func(r compactRow) string { return strconv.Itoa(r.Segments) }},
		column[compactRow]{"MAPS", func(r compactRow) string { return strconv.Itoa(r.Maps) }},
	)
	return eachClient(ctx, p, cmd, of, list, func(client string) ([]compactRow, error) {
		made, err := c.Merge(ctx, client)
		var rows []compactRow
		for _, m := range made {
			rows = append(rows, compactRow{client, m.Generation.String(), m.Merged, m.Into, m.Leftovers, m.Segments, m.Maps})
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", client, err)
		}
		return rows, err
	})
}
