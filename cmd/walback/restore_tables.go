package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/snapshot/tables"
	"github.com/walback/walback/wal"
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
	var pages wal.Pgno
	err = p.writeOutput(cmd, name, -1, func(out *output, count func(int64)) (err error) {
		pages, err = chosen.CopyTo(ctx, out.file, count)
		return err
	})
	if err != nil {
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
