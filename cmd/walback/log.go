package main

import (
	"context"
	"errors"
	"math"
	"slices"
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
			"history mount, its index for -index and as @INDEX.\n" +
			"\n" +
			"TIME may be 2024-01-14T15:45:00.5Z, 2h-ago, or a part: a date or a minute means\n" +
			"its beginning, in UTC. Lines are printed as they are read; what is not between\n" +
			"-since and -until is not fetched.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "only commits at or after `TIME`"},
			&cli.StringFlag{Name: "until", Usage: "only commits at or before `TIME`"},
			&cli.Int64Flag{Name: "n", Value: math.MaxInt64, DefaultText: "all", Usage: "only the newest `N` of these"},
			&cli.BoolFlag{Name: "reverse", Usage: "newest first"},
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
	most := cmd.Int64("n")
	if most <= 0 {
		return misuse(cmd, "-n %d: want a number above zero", most)
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
	reverse := cmd.Bool("reverse")
	spans, err := past.spans(ctx, chosen, since, until, most)
	if err != nil {
		return err
	}
	if reverse {
		slices.Reverse(spans)
	}
	list := newListing(p.stdout, cmd.Bool("json"),
		column[logRow]{"INDEX", func(r logRow) string { return r.Index.String() }},
		column[logRow]{"TIME", func(r logRow) string { return r.Time.String() }},
		column[logRow]{"PAGES", func(r logRow) string { return strconv.FormatUint(uint64(r.Pages), 10) }},
		column[logRow]{"BYTES", func(r logRow) string { return bytesText(r.Bytes) }},
		column[logRow]{"SIZE", func(r logRow) string { return bytesText(r.Size) }},
		column[logRow]{"GENERATION", func(r logRow) string { return r.Generation }},
	)
	for _, s := range spans {
		if err := past.addSpan(ctx, list, s, reverse); err != nil {
			return errors.Join(list.end(), err)
		}
	}
	return list.end()
}

// logSpan is what a log lists of one generation.
type logSpan struct {
	generations.Span
	pageSize int64
}

// spans returns what was committed in some generations from since to until, of
// it the newest transactions, most at most. Oldest first.
func (p *past) spans(ctx context.Context, from []generations.GenerationInfo, since, until wal.Time, most int64) ([]logSpan, error) {
	var spans []logSpan
	for _, g := range slices.Backward(from) {
		if most == 0 {
			break
		}
		span, err := p.timeline.Span(ctx, g.ID, since, until)
		if err != nil {
			return nil, err
		}
		span = span.Newest(most)
		most -= span.Len()
		spans = append(spans, logSpan{span, int64(g.Manifest.PageSize)})
	}
	slices.Reverse(spans)
	return spans, nil
}

// addSpan prints the transactions of a span.
func (p *past) addSpan(ctx context.Context, list *listing[logRow], s logSpan, reverse bool) error {
	txns := p.timeline.Txns(ctx, s.Span)
	if reverse {
		txns = p.timeline.TxnsBackward(ctx, s.Span)
	}
	for txn, err := range txns {
		if err == nil {
			err = list.add(logRow{
				Generation: s.Generation.String(),
				Index:      txn.ID,
				Time:       jsonTime(txn.Time),
				Pages:      txn.Pages,
				Bytes:      int64(txn.Pages) * s.pageSize,
				Size:       int64(txn.Size) * s.pageSize,
				Checksum:   txn.Checksum.String(),
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
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
