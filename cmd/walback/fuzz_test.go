package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/generations"
)

// FuzzCommandLine types arbitrary command lines, one word a line, and shows
// walback status arbitrary answers of a mount. A command line is understood, in
// bounds, or wrong usage told in one line; never anything else.
func FuzzCommandLine(f *testing.F) {
	for _, line := range []string{
		"mount /srv/app s3://b/p?endpoint=http://127.0.0.1:7070&region=r -history /mnt/h --interval 500ms -cache-size 10GiB",
		"mount -backing=/b -spool-limit 1GiB -shutdown-timeout=1h -allow-other -log-level warn -- /srv file:///store",
		"history -cache-dir /c -cache-size 1.5e3KB -log-json s3://b /mnt",
		"restore -o f -timestamp 2h-ago -generation 00000123456789ab file:///s/c",
		"restore -o f -index 12 -force -quiet file:///s/c",
		"log -since 2024-01-14 -until 2024-01-14T15:45:00.5+01:00 -json s3://b/c",
		"snapshots -generation 00000123456789ab s3://b/c", "wal s3://b/c", "generations file:///s/c", "databases -json file:///s",
		"completion bash", "completion tcsh", "completion -x", "restore file:///s/c -h", "-h mout", "status", "--version", "help mount", "mount -h", "nonsense", "restore --o", "-- log",
	} {
		f.Add(strings.ReplaceAll(line, " ", "\n"), []byte(`{}`))
	}
	status, err := json.Marshal(mountStatus{
		Dir: "/srv", URL: "s3://b", PID: 7, Mounted: 1_700_000_000_000_000,
		Databases: []databaseStatus{{Path: "a/db.sqlite", Captured: 3, CapturedTime: 1, Lag: 0.5, QueuedBytes: 4096, Error: "no"}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("status", status)
	f.Fuzz(func(t *testing.T, line string, status []byte) {
		var out bytes.Buffer
		p := &program{stdout: &out, stderr: &out, hurry: t.Context(), now: func() time.Time { return time.UnixMicro(1_700_000_000_000_000) }}
		typed(t, p, strings.Split("walback\n"+line, "\n"))
		var s mountStatus
		if json.Unmarshal(status, &s) != nil {
			return
		}
		for _, asJSON := range []bool{false, true} {
			if err := p.printStatus(s, asJSON); err != nil {
				t.Fatalf("%+v: %v", s, err)
			}
		}
	})
}

// typed parses a command line as run does, and carries nothing out.
func typed(t *testing.T, p *program, words []string) {
	root := p.command()
	for _, cmd := range root.Commands {
		if understand := p.understand(t, cmd.Name); understand != nil {
			cmd.Action = func(_ context.Context, cmd *cli.Command) error { return understand(cmd) }
		}
	}
	err := p.execute(t.Context(), root, words)
	if err == nil {
		return
	}
	if text := oneLine(err); text == "" || strings.ContainsAny(text, "\r\n") {
		t.Errorf("%q: %q", words, text)
	}
	var usage *usageError
	if !errors.As(err, &usage) {
		t.Errorf("%q: %v, which is no wrong usage", words, err)
	}
}

// understand returns what parses the flags and arguments of a command, and fails
// when they come out as what the command could not work with; nil for those that
// have none.
func (p *program) understand(t *testing.T, command string) func(*cli.Command) error {
	replica := func(cmd *cli.Command, arg string) error {
		u, err := parseReplica(cmd, arg)
		if err != nil {
			return err
		}
		if root, client, ok := splitClient(u); ok && joinClient(root, client) != u {
			t.Errorf("%s is %s of %s, which is %s", u, client, root, joinClient(root, client))
		}
		return nil
	}
	cache := func(cmd *cli.Command) error {
		dir, size, err := parseCache(cmd)
		if err == nil && (!filepath.IsAbs(dir) || size <= 0) {
			t.Errorf("a cache of %d bytes in %q", size, dir)
		}
		return err
	}
	logger := func(cmd *cli.Command) error {
		_, err := newLogger(cmd, p.stderr)
		return err
	}
	times := func(cmd *cli.Command) error {
		since, err := p.timeFlag(cmd, "since", math.MinInt64)
		if err != nil {
			return err
		}
		until, err := p.timeFlag(cmd, "until", math.MaxInt64)
		if err == nil && cmd.IsSet("since") && cmd.IsSet("until") && cmd.String("since") == cmd.String("until") && since != until {
			t.Errorf("%q is %s and %s", cmd.String("since"), since, until)
		}
		return err
	}
	instant := func(cmd *cli.Command) error {
		i, err := p.instantFlags(cmd)
		if err == nil && i.IsLatest() != (!cmd.IsSet("timestamp") && !cmd.IsSet("index")) {
			t.Errorf("the flags mean %s", i)
		}
		return err
	}
	generation := func(cmd *cli.Command) error {
		id, err := parseGeneration(cmd)
		if err == nil && id != 0 && id.String() != cmd.String("generation") {
			t.Errorf("%q is generation %s", cmd.String("generation"), id)
		}
		return err
	}
	switch command {
	case "mount":
		return func(cmd *cli.Command) error {
			o, err := parseMount(cmd)
			if err != nil {
				return err
			}
			checkMountOptions(t, o)
			return logger(cmd)
		}
	case "history":
		return parsing(replica, cache, logger)
	case "restore":
		return parsing(replica, instant)
	case "log":
		return parsing(replica, times, generation)
	case "generations", "snapshots", "wal":
		return parsing(replica, generation)
	case "databases":
		return parsing(replica)
	case "status":
		return func(*cli.Command) error { return nil } // it would ask the mounts of this machine
	}
	return nil
}

// parsing returns what parses the first argument as a replica and then the flags.
func parsing(replica func(*cli.Command, string) error, flags ...func(*cli.Command) error) func(*cli.Command) error {
	return func(cmd *cli.Command) error {
		args, err := wantArgs(cmd)
		if err == nil {
			err = replica(cmd, args[0])
		}
		for _, parse := range flags {
			if err == nil {
				err = parse(cmd)
			}
		}
		return err
	}
}

// checkMountOptions fails when o is nothing that can be mounted.
func checkMountOptions(t *testing.T, o mountOptions) {
	for what, dir := range map[string]string{"mount": o.dir, "-backing": o.backing, "-history": o.history, "-cache-dir": o.cacheDir} {
		if dir != "" && (!filepath.IsAbs(dir) || filepath.Clean(dir) != dir) {
			t.Errorf("%s is %q", what, dir)
		}
	}
	if o.interval <= 0 || o.shutdown < 0 || o.cacheSize <= 0 || o.spoolLimit < 0 {
		t.Errorf("%+v", o)
	}
	if again, err := generations.ParseURL(o.url.String()); err != nil || again != o.url {
		t.Errorf("the URL %+v is %s, which is %+v, %v", o.url, o.url, again, err)
	}
}
