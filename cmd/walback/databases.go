package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
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

func (p *program) databases(ctx context.Context, cmd *cli.Command) error {
	args, err := wantArgs(cmd)
	if err != nil {
		return err
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
	defer closeStore(store)
	packs, err := cache.New(store, nil, cache.Options{})
	if err != nil {
		return err
	}
	defer packs.Close()

	list := newListing(p.stdout, cmd.Bool("json"),
		column[databaseRow]{"CLIENT", func(r databaseRow) string { return r.Client }},
		column[databaseRow]{"INDEX", func(r databaseRow) string { return r.Index.String() }},
		column[databaseRow]{"NEWEST", func(r databaseRow) string { return r.Time.String() }},
		column[databaseRow]{"AGE", func(r databaseRow) string { return ageText(time.Duration(r.Age * float64(time.Second))) }},
		column[databaseRow]{"SIZE", func(r databaseRow) string { return bytesText(r.Size) }},
		column[databaseRow]{"STORED", func(r databaseRow) string { return bytesText(r.Stored) }},
	)
	listed := 0
	var damaged []error // must not hide the other databases
	for client, err := range generations.Clients(ctx, store) {
		if err != nil {
			return errors.Join(list.end(), err)
		}
		if only != "" && client != only {
			continue
		}
		listed++
		row, err := p.databaseRow(ctx, client, store, packs)
		if errors.Is(err, pack.ErrCorrupt) || errors.Is(err, generations.ErrIncomplete) {
			damaged = append(damaged, err)
			continue
		}
		if err == nil {
			err = list.add(row)
		}
		if err != nil {
			return errors.Join(list.end(), err)
		}
	}
	if listed == 0 {
		fmt.Fprintf(p.stderr, "walback databases: no database under %s\n", u)
	}
	return errors.Join(append(damaged, list.end())...)
}

// findRoot returns the root that u names and "", or, when u names one client,
// the root it is of and its name there.
func findRoot(ctx context.Context, u generations.URL) (generations.URL, string, error) {
	store, err := openStore(ctx, u, false)
	if err != nil {
		return u, "", err
	}
	defer closeStore(store)
	one, err := isClient(ctx, store)
	if err != nil || !one {
		return u, "", err
	}
	root, client, ok := splitClient(u)
	if !ok {
		return u, "", nil
	}
	return root, client, nil
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
