package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v3"
	"golang.org/x/term"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
)

// restoreCommand is walback restore -o FILE URL/CLIENT.
func (p *program) restoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "write a database as of an instant to a file",
		ArgsUsage: "URL/CLIENT",
		Description: "Without -timestamp and -index, the newest commit in the store. The file is byte\n" +
			"for byte what the database was, proved by the checksum recorded at its commit,\n" +
			"and appears whole or not at all.\n" +
			"\n" +
			"With -table, FILE is a new database with those tables, their indexes and triggers\n" +
			"(not the views, and not what ANALYZE found out), and only what they need is\n" +
			"fetched. Every page is verified; the recorded checksum is of the whole database.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "o", Usage: "write `FILE`"},
			&cli.StringFlag{Name: "timestamp", Usage: "the last commit at or before `TIME`, e.g. 2024-01-14T15:45:00Z or 2h-ago"},
			&cli.StringFlag{Name: "index", Usage: "the commit with `INDEX` N, as walback log prints it"},
			&cli.StringFlag{Name: "generation", Usage: "in `GENERATION`, as walback generations prints it"},
			tableFlag(),
			&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be fetched; needs no -o"},
			&cli.BoolFlag{Name: "json", Usage: "print what -dry-run says as JSON"},
			&cli.BoolFlag{Name: "force", Usage: "replace FILE if it exists"},
			&cli.BoolFlag{Name: "quiet", Usage: "print nothing but errors"},
		},
		DisableSliceFlagSeparator: true, // the name of a table may have commas
		Action:                    p.restore,
	}
}

func (p *program) restore(ctx context.Context, cmd *cli.Command) (err error) {
	args, err := wantArgs(cmd)
	if err != nil {
		return err
	}
	instant, err := p.instantFlags(cmd)
	if err != nil {
		return err
	}
	name, dry := cmd.String("o"), cmd.Bool("dry-run")
	switch {
	case name == "" && !dry:
		return misuse(cmd, "-o FILE is missing: say where to write")
	case cmd.Bool("json") && !dry:
		return misuse(cmd, "-json is for what -dry-run says")
	}
	if name != "" {
		if err := mayWrite(name, cmd.Bool("force")); err != nil {
			return err
		}
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(min(debug.SetMemoryLimit(-1), restoreHeap)))
	past, err := openPast(ctx, cmd, args[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, past.Close()) }()
	plan, err := past.timeline.At(ctx, instant, wal.TimeOf(p.now()))
	if err != nil {
		return err
	}
	view, err := past.timeline.Open(ctx, plan, past.cache.View)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	switch {
	case dry:
		return p.explain(ctx, cmd, plan, view)
	case cmd.IsSet("table"):
		return p.restoreTables(ctx, cmd, name, plan, view)
	}

	err = p.writeOutput(cmd, name, view.Size(), func(out *output, count func(int64)) error {
		return view.CopyTo(ctx, out, snapshot.CopyOptions{Progress: count})
	})
	if err != nil {
		return err
	}
	if cmd.Bool("quiet") {
		return nil
	}
	_, err = fmt.Fprintf(p.stdout, "%s: %s as of %s (index %d, generation %s), %s, checksum %s verified\n",
		name, plan.Client, plan.Txn.Time, plan.Txn.ID, plan.Generation, bytesText(view.Size()), plan.Txn.Checksum)
	return err
}

// writeOutput has a database of size bytes, -1 when nobody knows, written to the
// file name, whole or not at all, while a bar counts.
func (p *program) writeOutput(cmd *cli.Command, name string, size int64, write func(out *output, count func(int64)) error) error {
	out, err := createOutput(name)
	if err != nil {
		return err
	}
	defer out.discard()
	if err := out.reserve(max(size, 0)); err != nil {
		return err
	}
	var bar progress
	if !cmd.Bool("quiet") {
		bar = newProgress(p.stderr, size, "restoring")
	}
	err = write(out, bar.add)
	bar.end()
	if err != nil {
		return fmt.Errorf("restore %s: %w", name, err)
	}
	return out.commit(cmd.Bool("force"))
}

// restoreHeap is from how many bytes on the garbage collector makes do with what
// there is. What a restore holds is bounded and nearly all of it is used again
// and again; without this, garbage would come to as much in time.
const restoreHeap = 208 << 20

// instantFlags returns the instant that -timestamp, -index and -generation name.
func (p *program) instantFlags(cmd *cli.Command) (generations.Instant, error) {
	instant := generations.Latest()
	switch {
	case cmd.IsSet("timestamp") && cmd.IsSet("index"):
		return instant, misuse(cmd, "-timestamp and -index both name a commit: give one of them")
	case cmd.IsSet("timestamp"):
		t, err := generations.ParseTime(cmd.String("timestamp"), wal.TimeOf(p.now()))
		if err != nil {
			return instant, misuse(cmd, "-timestamp: %s", oneLine(err))
		}
		instant = generations.AtTime(t)
	case cmd.IsSet("index"):
		id, err := wal.ParseTXID(cmd.String("index"))
		if err != nil {
			return instant, misuse(cmd, "-index: %s", oneLine(err))
		}
		instant = generations.AtTXID(id)
	}
	g, err := parseGeneration(cmd)
	if err != nil {
		return instant, err
	}
	if g != 0 {
		instant = instant.In(g)
	}
	return instant, nil
}

// progress is a bar on a terminal; the zero value shows nothing.
type progress struct{ bar *progressbar.ProgressBar }

// newProgress begins a bar that counts to total bytes, if w is a terminal.
func newProgress(w io.Writer, total int64, what string) progress {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return progress{}
	}
	return progress{progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionClearOnFinish(),
	)}
}

// add counts n more bytes. What a terminal makes of it is nobody's failure.
func (p progress) add(n int64) {
	if p.bar != nil {
		_ = p.bar.Add64(n)
	}
}

// end takes the bar away.
func (p progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
