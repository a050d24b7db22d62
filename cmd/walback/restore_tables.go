package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/snapshot/tables"
)

// tableFlag is for what restore -table does instead of restoring everything.
func tableFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "table", Usage: "only this `TABLE`, with its indexes and triggers; can be given several times"}
}

// restoreTables writes a new database with some tables of a view to the file
// name.
func (p *program) restoreTables(ctx context.Context, cmd *cli.Command, name string, plan generations.Plan, view *snapshot.View) error {
	chosen, err := selectTables(cmd, plan, view)
	if err != nil {
		return err
	}
	out, err := createOutput(name)
	if err != nil {
		return err
	}
	defer out.discard()
	var bar progress
	if !cmd.Bool("quiet") {
		bar = newProgress(p.stderr, -1, "restoring") // nobody knows how much it will be
	}
	pages, err := chosen.CopyTo(ctx, out.file, bar.add)
	bar.end()
	if err != nil {
		return fmt.Errorf("restore %s: %w", name, err)
	}
	if err := out.commit(cmd.Bool("force")); err != nil {
		return err
	}
	if cmd.Bool("quiet") {
		return nil
	}
	_, err = fmt.Fprintf(p.stdout, "%s: %s of %s as of %s (index %d, generation %s), %s, each page verified\n",
		name, strings.Join(chosen.Names(), ", "), plan.Client, plan.Txn.Time, plan.Txn.ID, plan.Generation,
		bytesText(int64(pages)*int64(view.PageSize())))
	return err
}

// selectTables returns the tables of a view that -table names.
func selectTables(cmd *cli.Command, plan generations.Plan, view *snapshot.View) (*tables.Selection, error) {
	db, err := tables.Open(view)
	if err != nil {
		return nil, fmt.Errorf("%s as of %s: %w", plan.Client, plan.Txn.Time, err)
	}
	chosen, err := db.Select(cmd.StringSlice("table")...)
	if err != nil {
		return nil, fmt.Errorf("%s as of %s: %w", plan.Client, plan.Txn.Time, err)
	}
	return chosen, nil
}
