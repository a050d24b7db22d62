package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
)

// restorePlan is what walback restore -dry-run prints.
type restorePlan struct {
	Client     string         `json:"client"`
	Generation string         `json:"generation"`
	Index      wal.TXID       `json:"index"`
	Time       jsonTime       `json:"time"`
	Size       int64          `json:"size"`
	Checksum   string         `json:"checksum"`
	Tables     []string       `json:"tables,omitempty"`
	Pages      int64          `json:"pages"`  // to restore; of tables without the overflow of long rows
	Fetch      int64          `json:"fetch"`  // bytes of the blocks that hold them
	Stored     int64          `json:"stored"` // bytes of all objects below
	Objects    []restoreInput `json:"objects"`
}

// restoreInput is an object that a restore reads from.
type restoreInput struct {
	Key    string `json:"key"`
	Stored int64  `json:"stored"`
}

// explain prints what restore would do. It reads indexes, and of tables the
// pages above their leaves.
func (p *program) explain(ctx context.Context, cmd *cli.Command, plan generations.Plan, view *snapshot.View) error {
	e := restorePlan{
		Client:     plan.Client,
		Generation: plan.Generation.String(),
		Index:      plan.Txn.ID,
		Time:       jsonTime(plan.Txn.Time),
		Size:       view.Size(),
		Checksum:   plan.Txn.Checksum.String(),
	}
	for _, o := range plan.Objects {
		e.Objects = append(e.Objects, restoreInput{o.Key(), o.Size})
		e.Stored += o.Size
	}
	for _, o := range view.Objects() {
		e.Objects = append(e.Objects, restoreInput{generations.KeyAt(plan.Client, o.Place), o.Size})
		e.Stored += o.Size
	}
	stored := view.Stored()
	if cmd.IsSet("table") {
		if err := e.addTables(ctx, cmd, plan, view, stored); err != nil {
			return err
		}
	} else {
		for page := range plan.Txn.Size {
			if err := stored.Add(page + 1); err != nil {
				return err
			}
		}
	}
	e.Pages, e.Fetch = stored.Pages(), stored.Bytes()
	return e.print(p, cmd.Bool("json"))
}

// addTables adds the pages of the tables that -table names.
func (e *restorePlan) addTables(ctx context.Context, cmd *cli.Command, plan generations.Plan, view *snapshot.View, stored *snapshot.Stored) error {
	chosen, err := selectTables(cmd, plan, view)
	if err != nil {
		return err
	}
	e.Tables = chosen.Names()
	return chosen.Survey(ctx, stored.Add)
}

// print prints the plan, for people or as JSON.
func (e restorePlan) print(p *program, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(p.stdout).Encode(e)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s as of %s (index %d, generation %s), %s, checksum %s\n",
		e.Client, e.Time, e.Index, e.Generation, bytesText(e.Size), e.Checksum)
	pages := fmt.Sprintf("all %d pages", e.Pages)
	if len(e.Tables) > 0 {
		pages = fmt.Sprintf("%d pages of %s, and the rest of rows that are longer than a page", e.Pages, strings.Join(e.Tables, ", "))
	}
	fmt.Fprintf(&b, "would fetch %s for %s, of objects that are %s together:\n", bytesText(e.Fetch), pages, bytesText(e.Stored))
	for _, o := range e.Objects {
		fmt.Fprintf(&b, "  %s  %s\n", o.Key, bytesText(o.Stored))
	}
	_, err := fmt.Fprint(p.stdout, b.String())
	return err
}
