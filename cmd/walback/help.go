package main

import (
	"context"

	"github.com/urfave/cli/v3"
)

// helpCommand is walback help [CMD].
func (p *program) helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "explain a command",
		ArgsUsage: "[CMD]",
		HideHelp:  true,
		Action: func(ctx context.Context, cmd *cli.Command) error {
			switch cmd.NArg() {
			case 0:
				return cli.ShowRootCommandHelp(cmd.Root())
			case 1:
				name := cmd.Args().First()
				if cmd.Root().Command(name) == nil {
					return misuse(cmd, "no command %q", name)
				}
				return cli.ShowCommandHelp(ctx, cmd.Root(), name)
			}
			return misuse(cmd, "want one command, got %d", cmd.NArg())
		},
	}
}
