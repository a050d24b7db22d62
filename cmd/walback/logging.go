package main

import (
	"io"
	"log/slog"
	"time"

	"github.com/urfave/cli/v3"
)

// logFlags are those of the commands that run on.
func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-level", Value: "info", Usage: "say `LEVEL` and worse: debug, info, warn, error"},
		&cli.BoolFlag{Name: "log-json", Usage: "log JSON, one object a line"},
	}
}

// newLogger returns the logger that logFlags ask for. It writes to w.
func newLogger(cmd *cli.Command, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cmd.String("log-level"))); err != nil {
		return nil, misuse(cmd, "-log-level %q: want debug, info, warn or error", cmd.String("log-level"))
	}
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: utcTimes}
	if cmd.Bool("log-json") {
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}

// utcTimes prints times as everything else here does.
func utcTimes(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindTime {
		a.Value = slog.StringValue(a.Value.Time().UTC().Format("2006-01-02T15:04:05.000000Z"))
	}
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().Round(time.Millisecond).String())
	}
	return a
}
