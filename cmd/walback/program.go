package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
)

// program is one run of walback.
type program struct {
	stdout, stderr io.Writer
	// hurry ends when a second signal asks to leave at once. The context of a
	// command ends with the first.
	hurry context.Context
	now   func() time.Time
	// unknown is what there is to say of a word beside -h that is no command. The
	// library asks for no error there.
	unknown error
}

// run executes the command in args, the program's name first, and returns the
// exit status. A failure is one line on stderr.
func (p *program) run(ctx context.Context, args []string) int {
	err := p.execute(ctx, p.command(), args)
	if err == nil {
		return statusDone
	}
	text := oneLine(err)
	if cause := context.Cause(ctx); cause != nil {
		text = strings.ReplaceAll(text, context.Canceled.Error(), cause.Error())
	}
	fmt.Fprintf(p.stderr, "walback: %s\n", text)
	var usage *usageError
	if errors.As(err, &usage) {
		return statusUsage
	}
	return statusFailed
}

// execute carries out the command in args with the tree of commands root.
func (p *program) execute(ctx context.Context, root *cli.Command, args []string) error {
	if err := root.Run(ctx, args); err != nil {
		return err
	}
	return p.unknown
}

// command builds the tree of commands. A new one is needed for every run, since
// the parsed flags live in it.
func (p *program) command() *cli.Command {
	root := &cli.Command{
		Name:  "walback",
		Usage: "gives SQLite a past",
		Description: "Times are UTC, RFC 3339 with up to six decimals; a zone offset is honoured.\n" +
			"Flags take one dash or two, before or after the arguments; -- ends them.\n" +
			"Exit status: 0 done, 1 failed, 2 wrong usage.",
		HideVersion:                     true,
		HideHelpCommand:                 true,
		EnableShellCompletion:           true,
		ConfigureShellCompletionCommand: func(cmd *cli.Command) { p.frame(cmd) },
		Flags:                           []cli.Flag{&cli.BoolFlag{Name: "version", Usage: "print the version", Local: true}},
		Action:                          p.noCommand,
		Commands: []*cli.Command{
			p.mountCommand(),
			p.historyCommand(),
			p.databasesCommand(),
			p.generationsCommand(),
			p.snapshotsCommand(),
			p.walCommand(),
			p.logCommand(),
			p.restoreCommand(),
			p.compactCommand(),
			p.pruneCommand(),
			p.statusCommand(),
			p.versionCommand(),
			p.helpCommand(),
		},
	}
	return p.frame(root)
}

// frame gives cmd and every command below it the same manners: its output goes
// to p, and an error is returned instead of printed.
func (p *program) frame(cmd *cli.Command) *cli.Command {
	cmd.Writer, cmd.ErrWriter = p.stdout, p.stderr
	cmd.ExitErrHandler = func(context.Context, *cli.Command, error) {}
	cmd.OnUsageError = func(_ context.Context, cmd *cli.Command, err error, _ bool) error {
		return misuse(cmd, "%s", strings.TrimPrefix(err.Error(), "Error: "))
	}
	cmd.CommandNotFound = func(_ context.Context, cmd *cli.Command, name string) {
		p.unknown = misuse(cmd, "no command %q", name)
	}
	for _, sub := range cmd.Commands {
		p.frame(sub)
		if len(sub.Commands) == 0 {
			sub.CommandNotFound = explain
		}
	}
	return cmd
}

// explain is called when -h has arguments beside it, which the library takes for
// the names of commands below cmd.
func explain(_ context.Context, cmd *cli.Command, _ string) {
	cli.HelpPrinter(cmd.Root().Writer, cli.CommandHelpTemplate, cmd)
}

// noCommand answers a command line that names no command of ours.
func (p *program) noCommand(_ context.Context, cmd *cli.Command) error {
	if cmd.Bool("version") {
		return p.printVersion()
	}
	if name := cmd.Args().First(); name != "" {
		return misuse(cmd, "no command %q", name)
	}
	return misuse(cmd, "no command given")
}

// usageError is a command line that cannot be carried out as it was typed.
type usageError struct {
	command string // e.g. "walback mount"
	what    string
}

func (e *usageError) Error() string {
	what := strings.TrimPrefix(e.command+": ", "walback: ")
	what = strings.TrimPrefix(what, "walback ")
	help := "walback help"
	if name, ok := strings.CutPrefix(e.command, "walback "); ok {
		help += " " + name
	}
	return fmt.Sprintf("%s%s (see %s)", what, e.what, help)
}

// misuse returns a usageError of cmd.
func misuse(cmd *cli.Command, format string, args ...any) error {
	return &usageError{command: cmd.FullName(), what: fmt.Sprintf(format, args...)}
}

// wantArgs returns the positional arguments of cmd, which are what its ArgsUsage
// names, or a usageError.
func wantArgs(cmd *cli.Command) ([]string, error) {
	names := strings.Fields(cmd.ArgsUsage)
	args := cmd.Args().Slice()
	switch {
	case len(args) < len(names):
		return nil, misuse(cmd, "%s is missing: walback %s [flags] %s", names[len(args)], cmd.Name, cmd.ArgsUsage)
	case len(args) > len(names):
		return nil, misuse(cmd, "%q is one argument too many: walback %s [flags] %s", args[len(names)], cmd.Name, cmd.ArgsUsage)
	}
	return args, nil
}

// oneLine returns the text of err in one line.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
