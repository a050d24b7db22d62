package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// databaseRow is a line of walback databases.
type databaseRow struct {
	Client      string   `json:"client"`
	File        string   `json:"file"`
	Generation  string   `json:"generation"`
	Index       wal.TXID `json:"index"`
	Time        jsonTime `json:"time"`
	Age         float64  `json:"age_seconds"`
	Size        int64    `json:"size"`
	Stored      int64    `json:"stored"`
	Generations int      `json:"generations"`
}

// databasesCommand is walback databases URL.
func (p *program) databasesCommand() *cli.Command {
	return &cli.Command{
		Name:      "databases",
		Usage:     "list the clients under a replica URL",
		ArgsUsage: "URL",
		Description: "AGE is the time since the newest commit that is in the store, SIZE that of the\n" +
			"database, STORED what all its generations take in the store.",
		Flags:  []cli.Flag{jsonFlag()},
		Action: p.databases,
	}
}

func (p *program) databases(ctx context.Context, cmd *cli.Command) (err error) {
	args, err := wantArgs(cmd)
	if err != nil {
		return err
	}
	clients, err := openClients(ctx, cmd, args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clients.Close()) }()
	list := newListing(p.stdout, cmd.Bool("json"),
		column[databaseRow]{"CLIENT", func(r databaseRow) string { return r.Client }},
		column[databaseRow]{"INDEX", func(r databaseRow) string { return r.Index.String() }},
		column[databaseRow]{"NEWEST", func(r databaseRow) string { return r.Time.String() }},
		column[databaseRow]{"AGE", func(r databaseRow) string { return ageText(time.Duration(r.Age * float64(time.Second))) }},
		column[databaseRow]{"SIZE", func(r databaseRow) string { return bytesText(r.Size) }},
		column[databaseRow]{"STORED", func(r databaseRow) string { return bytesText(r.Stored) }},
	)
	return eachClient(ctx, p, cmd, clients, list, func(client string) ([]databaseRow, error) {
		row, err := p.databaseRow(ctx, client, clients.store, clients.packs)
		if err != nil {
			return nil, err
		}
		return []databaseRow{row}, nil
	})
}

// databaseRow asks the store about one client.
func (p *program) databaseRow(ctx context.Context, client string, s generations.Store, packs generations.Opener) (databaseRow, error) {
	timeline, err := generations.OpenTimeline(ctx, client, s, nil, packs)
	if err != nil {
		return databaseRow{}, err
	}
	all, err := timeline.Generations(ctx)
	if err != nil {
		return databaseRow{}, err
	}
	row := databaseRow{Client: client, Generations: len(all)}
	for _, g := range all {
		row.File = g.Manifest.File
		row.Stored += g.Bytes
		if g.Last.Time == 0 || wal.Time(row.Time) > g.Last.Time {
			continue
		}
		row.Generation = g.ID.String()
		row.Index = g.Last.ID
		row.Time = jsonTime(g.Last.Time)
		row.Age = p.now().Sub(g.Last.Time.Std()).Seconds()
		row.Size = int64(g.Last.Size) * int64(g.Manifest.PageSize)
	}
	return row, nil
}
