package main

import (
	"context"
	"errors"
	"math"
	"strconv"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// logRow is a line of walback log.
type logRow struct {
	Generation string   `json:"generation"`
	Index      wal.TXID `json:"index"`
	Time       jsonTime `json:"time"`
	Pages      wal.Pgno `json:"pages"`
	Bytes      int64    `json:"bytes"`
	Size       int64    `json:"size"`
	Checksum   string   `json:"checksum"`
}

// logCommand is walback log URL/CLIENT.
func (p *program) logCommand() *cli.Command {
	return &cli.Command{
		Name:      "log",
		Usage:     "list the transactions of a client, oldest first",
		ArgsUsage: "URL/CLIENT",
		Description: "PAGES and BYTES are what the transaction wrote, SIZE is the database after it.\n" +
			"Every line is an instant: its time is good for -timestamp and as a path of the\n" +
			"history mount, its index for -index and as @INDEX.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "only commits at or after `TIME`"},
			&cli.StringFlag{Name: "until", Usage: "only commits at or before `TIME`"},
			generationFlag(),
			jsonFlag(),
		},
		Action: p.log,
	}
}

func (p *program) log(ctx context.Context, cmd *cli.Command) (err error) {
	args, err := wantArgs(cmd)
	if err != nil {
		return err
	}
	since, err := p.timeFlag(cmd, "since", math.MinInt64)
	if err != nil {
		return err
	}
	until, err := p.timeFlag(cmd, "until", math.MaxInt64)
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
	pageSize := map[generations.ID]int{}
	for _, g := range all {
		pageSize[g.ID] = g.Manifest.PageSize
	}
	chosen, err := past.chosenGenerations(ctx, cmd)
	if err != nil {
		return err
	}
	list := newListing(p.stdout, cmd.Bool("json"),
		column[logRow]{"INDEX", func(r logRow) string { return r.Index.String() }},
		column[logRow]{"TIME", func(r logRow) string { return r.Time.String() }},
		column[logRow]{"PAGES", func(r logRow) string { return strconv.FormatUint(uint64(r.Pages), 10) }},
		column[logRow]{"BYTES", func(r logRow) string { return bytesText(r.Bytes) }},
		column[logRow]{"SIZE", func(r logRow) string { return bytesText(r.Size) }},
		column[logRow]{"GENERATION", func(r logRow) string { return r.Generation }},
	)
	for _, g := range chosen {
		size := int64(pageSize[g])
		for txn, err := range past.timeline.Txns(ctx, g, since, until) {
			if err != nil {
				return errors.Join(list.end(), err)
			}
			if err := list.add(logRow{
				Generation: g.String(),
				Index:      txn.ID,
				Time:       jsonTime(txn.Time),
				Pages:      txn.Pages,
				Bytes:      int64(txn.Pages) * size,
				Size:       int64(txn.Size) * size,
				Checksum:   txn.Checksum.String(),
			}); err != nil {
				return err
			}
		}
	}
	return list.end()
}

// timeFlag returns the time a flag names, or otherwise when it is not set.
func (p *program) timeFlag(cmd *cli.Command, name string, otherwise wal.Time) (wal.Time, error) {
	if !cmd.IsSet(name) {
		return otherwise, nil
	}
	t, err := generations.ParseTime(cmd.String(name), wal.TimeOf(p.now()))
	if err != nil {
		return 0, misuse(cmd, "-%s: %s", name, oneLine(err))
	}
	return t, nil
}
