package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// packRow is a line of walback snapshots and of walback wal.
type packRow struct {
	Generation string   `json:"generation"`
	First      wal.TXID `json:"first"`
	FirstTime  jsonTime `json:"first_time"`
	Last       wal.TXID `json:"last"`
	LastTime   jsonTime `json:"last_time"`
	Pages      int64    `json:"pages"` // versions of pages in the object
	Stored     int64    `json:"stored"`
	Key        string   `json:"key"`
	// Fuzzy snapshots are of no instant by themselves.
	Fuzzy bool `json:"fuzzy,omitempty"`
}

// generationFlag limits a listing to one generation.
func generationFlag() cli.Flag {
	return &cli.StringFlag{Name: "generation", Usage: "only this `GENERATION`"}
}

// snapshotsCommand is walback snapshots URL/CLIENT.
func (p *program) snapshotsCommand() *cli.Command {
	return &cli.Command{
		Name:      "snapshots",
		Usage:     "list the snapshots of a client, oldest first",
		ArgsUsage: "URL/CLIENT",
		Flags:     []cli.Flag{generationFlag(), jsonFlag()},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			return p.listPacks(ctx, cmd, (*generations.Timeline).Snapshots,
				column[packRow]{"GENERATION", func(r packRow) string { return r.Generation }},
				column[packRow]{"INDEX", func(r packRow) string { return r.Last.String() }},
				column[packRow]{"TIME", func(r packRow) string { return r.LastTime.String() }},
				column[packRow]{"PAGES", func(r packRow) string { return strconv.FormatInt(r.Pages, 10) }},
				column[packRow]{"STORED", func(r packRow) string { return bytesText(r.Stored) }},
				column[packRow]{"OBJECT", func(r packRow) string { return r.Key }},
			)
		},
	}
}

// walCommand is walback wal URL/CLIENT.
func (p *program) walCommand() *cli.Command {
	return &cli.Command{
		Name:      "wal",
		Usage:     "list the segments of a client, oldest first",
		ArgsUsage: "URL/CLIENT",
		Flags:     []cli.Flag{generationFlag(), jsonFlag()},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			return p.listPacks(ctx, cmd, (*generations.Timeline).Segments,
				column[packRow]{"GENERATION", func(r packRow) string { return r.Generation }},
				column[packRow]{"INDEXES", func(r packRow) string { return fmt.Sprintf("%d-%d", r.First, r.Last) }},
				column[packRow]{"FROM", func(r packRow) string { return r.FirstTime.String() }},
				column[packRow]{"TO", func(r packRow) string { return r.LastTime.String() }},
				column[packRow]{"PAGES", func(r packRow) string { return strconv.FormatInt(r.Pages, 10) }},
				column[packRow]{"STORED", func(r packRow) string { return bytesText(r.Stored) }},
				column[packRow]{"OBJECT", func(r packRow) string { return r.Key }},
			)
		},
	}
}

// listPacks lists what one of a timeline's methods tells of each generation.
func (p *program) listPacks(ctx context.Context, cmd *cli.Command,
	packs func(*generations.Timeline, context.Context, generations.ID) ([]generations.PackInfo, error),
	columns ...column[packRow],
) (err error) {
	args, err := wantArgs(cmd)
	if err != nil {
		return err
	}
	past, err := openPast(ctx, cmd, args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, past.Close()) }()
	chosen, err := past.chosenGenerations(ctx, cmd)
	if err != nil {
		return err
	}
	list := newListing(p.stdout, cmd.Bool("json"), columns...)
	for _, g := range chosen {
		all, err := packs(past.timeline, ctx, g.ID)
		if err != nil {
			return errors.Join(list.end(), err)
		}
		for _, o := range all {
			if err := list.add(packRow{
				Generation: g.ID.String(),
				First:      o.Info.First.ID,
				FirstTime:  jsonTime(o.Info.First.Time),
				Last:       o.Info.Last.ID,
				LastTime:   jsonTime(o.Info.Last.Time),
				Pages:      o.Info.Versions,
				Stored:     o.Size,
				Key:        o.Key(),
				Fuzzy:      o.Info.Fuzzy,
			}); err != nil {
				return err
			}
		}
	}
	return list.end()
}

// chosenGenerations returns the generation that -generation names, or all,
// oldest first.
func (p *past) chosenGenerations(ctx context.Context, cmd *cli.Command) ([]generations.GenerationInfo, error) {
	all, err := p.timeline.Generations(ctx)
	if err != nil {
		return nil, err
	}
	want, err := parseGeneration(cmd)
	if err != nil || want == 0 {
		return all, err
	}
	for _, g := range all {
		if g.ID == want {
			return []generations.GenerationInfo{g}, nil
		}
	}
	return nil, fmt.Errorf("client %s has no generation %s: walback generations lists those it has", p.client, want)
}

// parseGeneration returns what -generation says, or zero.
func parseGeneration(cmd *cli.Command) (generations.ID, error) {
	text := cmd.String("generation")
	if text == "" {
		return 0, nil
	}
	id, err := generations.ParseID(text)
	if err != nil {
		return 0, misuse(cmd, "-generation: %s", oneLine(err))
	}
	return id, nil
}
