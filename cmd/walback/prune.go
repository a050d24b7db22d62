package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/generations"
)

// pruneRow is a line of walback prune.
type pruneRow struct {
	Client      string        `json:"client"`
	Kept        []keptRow     `json:"kept"`
	Dropped     int64         `json:"dropped"`     // transactions
	Generations []pruneGenRow `json:"generations"` // those that change
	Stored      int64         `json:"stored"`      // bytes of these
	Freed       int64         `json:"freed"`       // bytes of these, about
}

// keptRow is how many transactions a tier keeps, that none in front of it does.
type keptRow struct {
	Tier         string `json:"tier"`
	Transactions int64  `json:"transactions"`
}

// pruneGenRow is what becomes of a generation.
type pruneGenRow struct {
	Generation string `json:"generation"`
	Kept       int64  `json:"kept"`    // transactions
	Dropped    int64  `json:"dropped"` // transactions
	Gone       bool   `json:"gone"`    // all of it is deleted
	Deleted    int    `json:"deleted"` // objects
	Thinned    int    `json:"thinned"` // segments
	Into       int    `json:"into"`    // segments
	Stored     int64  `json:"stored"`  // bytes
	Freed      int64  `json:"freed"`   // bytes, about
}

// pruneCommand is walback prune -retain POLICY URL[/CLIENT].
func (p *program) pruneCommand() *cli.Command {
	return &cli.Command{
		Name:      "prune",
		Usage:     "keep what a policy promises of the history of one client, or all, and delete the rest",
		ArgsUsage: "URL",
		Description: "POLICY is for example \"every commit 7d, hourly 30d, daily 1y\": every commit of the\n" +
			"last week, the last one of each hour of the last 30 days, and of each day of the\n" +
			"last year (of 365 days). Hours, days, weeks (from Monday), months and years are\n" +
			"those of UTC; \"every 15m 2d\" and \"monthly forever\" are understood too. The newest\n" +
			"commit always stays, with those that were shipped together with it. What was\n" +
			"pruned cannot be had back. Try -dry-run first.\n" +
			"\n" +
			"Mounts may go on meanwhile, and others may prune. What is not needed any more is\n" +
			"deleted after -grace, so that what is reading it can end. Interrupt it whenever\n" +
			"you like: nothing that is kept is lost, and the next one does the rest.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "retain", Usage: "keep what `POLICY` says"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only print what would be done"},
			&cli.DurationFlag{Name: "grace", Value: generations.Grace, Usage: "delete what is not needed any more after `TIME`; less is only right when nobody else reads or writes the store"},
			jsonFlag(),
		},
		Action: p.prune,
	}
}

// parseRetain returns the policy that -retain says, nil for none.
func parseRetain(cmd *cli.Command) (generations.Policy, error) {
	if !cmd.IsSet("retain") {
		return nil, nil
	}
	policy, err := generations.ParsePolicy(cmd.String("retain"))
	if err != nil {
		return nil, misuse(cmd, "-retain: %s", oneLine(err))
	}
	return policy, nil
}

func (p *program) prune(ctx context.Context, cmd *cli.Command) (err error) {
	args, err := wantArgs(cmd)
	if err != nil {
		return err
	}
	policy, err := parseRetain(cmd)
	if err != nil {
		return err
	}
	grace := cmd.Duration("grace")
	switch {
	case policy == nil:
		return misuse(cmd, `-retain is missing: say what to keep, for example -retain "every commit 7d, hourly 30d, daily 1y"`)
	case grace < 0:
		return misuse(cmd, "-grace %s: want a time of zero or more", grace)
	}
	clients, err := openClients(ctx, cmd, args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clients.Close()) }()
	pruning := generations.NewPruning(clients.store, clients.packs, generations.PruneOptions{Policy: policy, Grace: grace, Now: p.now})
	do := pruning.Prune
	if cmd.Bool("dry-run") {
		do = pruning.Plan
	}
	err = p.pruneClients(ctx, cmd, do, clients)
	// Whatever happened, what is not needed any more can be deleted.
	if n, wait := pruning.Replaced(); n > 0 && ctx.Err() == nil {
		if wait > 0 {
			fmt.Fprintf(p.stderr, "%d objects that are not needed any more will be deleted in %s\n", n, ageText(wait))
		}
		deleting := pruning.Delete(ctx)
		if errors.Is(deleting, generations.ErrDenied) {
			deleting = fmt.Errorf("what is not needed any more stays in the store: %w", deleting)
		}
		err = errors.Join(err, deleting)
	}
	return err
}

// pruneClients prunes clients, or plans to.
func (p *program) pruneClients(ctx context.Context, cmd *cli.Command, do func(context.Context, string) (*generations.PrunePlan, error), of *clients) error {
	count := func(of func(pruneGenRow) int) func(pruneRow) string {
		return func(r pruneRow) string {
			n := 0
			for _, g := range r.Generations {
				n += of(g)
			}
			return strconv.Itoa(n)
		}
	}
	list := newListing(p.stdout, cmd.Bool("json"),
		column[pruneRow]{"CLIENT", func(r pruneRow) string { return r.Client }},
		column[pruneRow]{"KEPT", keptText},
		column[pruneRow]{"DROPPED", func(r pruneRow) string { return strconv.FormatInt(r.Dropped, 10) }},
		column[pruneRow]{"DELETED", count(func(g pruneGenRow) int { return g.Deleted })},
		column[pruneRow]{"THINNED", count(func(g pruneGenRow) int { return g.Thinned })},
		column[pruneRow]{"INTO", count(func(g pruneGenRow) int { return g.Into })},
		column[pruneRow]{"STORED", func(r pruneRow) string { return bytesText(r.Stored) }},
		column[pruneRow]{"FREED", func(r pruneRow) string { return bytesText(r.Freed) }},
	)
	return eachClient(ctx, p, cmd, of, list, func(client string) ([]pruneRow, error) {
		plan, err := do(ctx, client)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", client, err)
		}
		return []pruneRow{pruneRowOf(plan)}, nil
	})
}

func pruneRowOf(plan *generations.PrunePlan) pruneRow {
	row := pruneRow{Client: plan.Client, Dropped: plan.Dropped, Generations: []pruneGenRow{}}
	for i, n := range plan.Kept {
		tier := "newest"
		if i < len(plan.Policy) {
			tier = plan.Policy[i].String()
		}
		row.Kept = append(row.Kept, keptRow{tier, n})
	}
	for _, g := range plan.Generations {
		row.Generations = append(row.Generations, pruneGenRow{g.ID.String(), g.Kept, g.Dropped, g.Gone, g.Deleted, g.Thinned, g.Into, g.Before, g.Freed})
		row.Stored += g.Before
		row.Freed += g.Freed
	}
	return row
}

// keptText says which tier keeps how many.
func keptText(r pruneRow) string {
	var texts []string
	for _, k := range r.Kept {
		if k.Transactions > 0 {
			texts = append(texts, fmt.Sprintf("%s: %d", k.Tier, k.Transactions))
		}
	}
	return strings.Join(texts, ", ")
}
