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

// generationRow is a line of walback generations.
type generationRow struct {
	Generation string   `json:"generation"`
	Created    jsonTime `json:"created"`
	First      wal.TXID `json:"first"`
	FirstTime  jsonTime `json:"first_time"`
	Last       wal.TXID `json:"last"`
	LastTime   jsonTime `json:"last_time"`
	PageSize   int      `json:"page_size"`
	Snapshots  int      `json:"snapshots"`
	Segments   int      `json:"segments"`
	Stored     int64    `json:"stored"`
	Parent     string   `json:"parent,omitempty"` // generation@index
}

// generationsCommand is walback generations URL/CLIENT.
func (p *program) generationsCommand() *cli.Command {
	return &cli.Command{
		Name:      "generations",
		Usage:     "list the generations of a client, oldest first",
		ArgsUsage: "URL/CLIENT",
		Description: "A generation is an unbroken lineage of transactions. A new one begins when\n" +
			"something may have been missed: files changed while nothing was mounted.",
		Flags:  []cli.Flag{jsonFlag()},
		Action: p.generations,
	}
}

func (p *program) generations(ctx context.Context, cmd *cli.Command) (err error) {
	args, err := wantArgs(cmd)
	if err != nil {
		return err
	}
	past, err := openPast(ctx, cmd, args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, past.Close()) }()
	all, err := past.timeline.Generations(ctx)
	if err != nil {
		return err
	}
	list := newListing(p.stdout, cmd.Bool("json"),
		column[generationRow]{"GENERATION", func(r generationRow) string { return r.Generation }},
		column[generationRow]{"FROM", func(r generationRow) string { return r.FirstTime.String() }},
		column[generationRow]{"TO", func(r generationRow) string { return r.LastTime.String() }},
		column[generationRow]{"INDEXES", func(r generationRow) string { return fmt.Sprintf("%d-%d", r.First, r.Last) }},
		column[generationRow]{"SNAPSHOTS", func(r generationRow) string { return strconv.Itoa(r.Snapshots) }},
		column[generationRow]{"SEGMENTS", func(r generationRow) string { return strconv.Itoa(r.Segments) }},
		column[generationRow]{"STORED", func(r generationRow) string { return bytesText(r.Stored) }},
		column[generationRow]{"PARENT", func(r generationRow) string { return dashed(r.Parent) }},
	)
	for _, g := range all {
		if err := list.add(rowOf(g)); err != nil {
			return err
		}
	}
	return list.end()
}

func rowOf(g generations.GenerationInfo) generationRow {
	row := generationRow{
		Generation: g.ID.String(),
		Created:    jsonTime(g.Manifest.Created),
		First:      g.First.ID,
		FirstTime:  jsonTime(g.First.Time),
		Last:       g.Last.ID,
		LastTime:   jsonTime(g.Last.Time),
		PageSize:   g.Manifest.PageSize,
		Snapshots:  g.Snapshots,
		Segments:   g.Segments,
		Stored:     g.Bytes,
	}
	if parent := g.Manifest.Parent; parent != nil {
		row.Parent = fmt.Sprintf("%s@%d", parent.Generation, parent.Txn)
	}
	return row
}

// dashed returns s, or a dash in place of nothing, so that columns stay apart.
func dashed(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
