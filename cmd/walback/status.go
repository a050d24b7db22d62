package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/fs"
	"github.com/walback/walback/fs/live"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// statusFile is where a live mount shows its status, below its root.
const statusFile = ".walback/status"

// mountStatus is what a live mount tells about itself: the content of its
// status file.
type mountStatus struct {
	Dir       string           `json:"dir"`
	URL       string           `json:"url"`
	History   string           `json:"history,omitempty"`
	PID       int              `json:"pid"`
	Version   string           `json:"version"`
	Mounted   jsonTime         `json:"mounted"`
	Databases []databaseStatus `json:"databases"`
}

// databaseStatus is how one database of a mount stands: what has been captured
// of it and what of that is in the store.
type databaseStatus struct {
	Path   string `json:"path"`
	Client string `json:"client"`
	// Capture is what fs/live says: reading, following, broken or resting.
	Capture      string   `json:"capture"`
	Generation   string   `json:"generation,omitempty"`
	Captured     wal.TXID `json:"captured"`
	CapturedTime jsonTime `json:"captured_time"`
	Shipped      wal.TXID `json:"shipped"`
	ShippedTime  jsonTime `json:"shipped_time"`
	Queued       int      `json:"queued"`       // transactions
	QueuedBytes  int64    `json:"queued_bytes"` // of pages
	Lag          float64  `json:"lag_seconds"`  // age of the oldest commit that is not shipped
	Error        string   `json:"error,omitempty"`
}

// statusCommand is walback status [DIR].
func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "tell how the live mounts on this machine stand",
		ArgsUsage: "[DIR]",
		Description: "LAG is the age of the oldest commit that is captured and not in the store yet,\n" +
			"QUEUED what waits to be shipped. Fails when DIR is no live mount; without DIR,\n" +
			"all live mounts are asked.",
		Flags:  []cli.Flag{jsonFlag()},
		Action: p.status,
	}
}

func (p *program) status(_ context.Context, cmd *cli.Command) error {
	if cmd.NArg() > 1 {
		return misuse(cmd, "%q is one argument too many: walback status [DIR]", cmd.Args().Get(1))
	}
	dirs, err := liveMounts(cmd.Args().First())
	if err != nil {
		return err
	}
	var failed []error
	for _, dir := range dirs {
		s, err := readStatus(dir)
		if err == nil {
			err = p.printStatus(s, cmd.Bool("json"))
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// liveMounts returns the directory of the live mount on dir, or of all live
// mounts when dir is empty.
func liveMounts(dir string) ([]string, error) {
	mounts, err := fs.Mounts()
	if err != nil {
		return nil, err
	}
	want := ""
	if dir != "" {
		if want, err = filepath.Abs(dir); err != nil {
			return nil, err
		}
		if real, err := filepath.EvalSymlinks(want); err == nil {
			want = real
		}
	}
	var dirs []string
	for _, m := range mounts {
		if m.Type == "fuse."+string(fs.Live) && (dir == "" || m.Dir == want) {
			dirs = append(dirs, m.Dir)
		}
	}
	if dir != "" && len(dirs) == 0 {
		return nil, fmt.Errorf("%s is no live walback mount: walback mount %s URL makes it one", want, want)
	}
	return dirs, nil
}

// readStatus asks the live mount on dir.
func readStatus(dir string) (mountStatus, error) {
	text, err := os.ReadFile(filepath.Join(dir, statusFile))
	if err != nil {
		return mountStatus{}, fmt.Errorf("the mount on %s does not answer (mount it again if its process is gone): %w", dir, err)
	}
	var s mountStatus
	if err := json.Unmarshal(text, &s); err != nil {
		return mountStatus{}, fmt.Errorf("%s: %w", filepath.Join(dir, statusFile), err)
	}
	return s, nil
}

// printStatus prints what one mount told.
func (p *program) printStatus(s mountStatus, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(p.stdout).Encode(s)
	}
	fmt.Fprintf(p.stdout, "%s -> %s (process %d, since %s)\n", s.Dir, s.URL, s.PID, s.Mounted)
	list := newListing(p.stdout, false,
		column[databaseStatus]{"DATABASE", func(d databaseStatus) string { return d.Path }},
		column[databaseStatus]{"CAPTURE", func(d databaseStatus) string { return d.Capture }},
		column[databaseStatus]{"CAPTURED", func(d databaseStatus) string { return d.Captured.String() }},
		column[databaseStatus]{"SHIPPED", func(d databaseStatus) string { return d.Shipped.String() }},
		column[databaseStatus]{"LAG", func(d databaseStatus) string { return ageText(time.Duration(d.Lag * float64(time.Second))) }},
		column[databaseStatus]{"QUEUED", func(d databaseStatus) string { return bytesText(d.QueuedBytes) }},
		column[databaseStatus]{"ERROR", func(d databaseStatus) string { return dashed(d.Error) }},
	)
	for _, d := range s.Databases {
		if err := list.add(d); err != nil {
			return err
		}
	}
	return list.end()
}

// statusOf puts together what the capture and the shipper know, by client.
func statusOf(captured []live.Status, shipped []generations.DatabaseStatus) []databaseStatus {
	left := map[string]generations.DatabaseStatus{}
	for _, s := range shipped {
		left[s.Client] = s
	}
	all := []databaseStatus{}
	for _, c := range captured {
		client, _ := generations.ClientOf(c.Path)
		s, shipping := left[client]
		d := shippingStatus(s)
		delete(left, client)
		d.Path, d.Client, d.Capture = c.Path, client, c.Phase
		d.Captured, d.CapturedTime = c.Last.ID, jsonTime(c.Last.Time)
		if !shipping && c.Phase == "resting" { // since before this mount: it is all in the store
			d.Shipped, d.ShippedTime = d.Captured, d.CapturedTime
		}
		if c.Error != "" {
			d.Error = c.Error
		}
		all = append(all, d)
	}
	// What is still to be shipped of databases that are not there any more.
	for _, s := range shipped {
		if _, ok := left[s.Client]; ok && s.Queued > 0 {
			d := shippingStatus(s)
			d.Path, d.Client, d.Capture = generations.PathOf(s.Client, s.File), s.Client, "gone"
			all = append(all, d)
		}
	}
	return all
}

// shippingStatus is what the shipper knows of a database.
func shippingStatus(s generations.DatabaseStatus) databaseStatus {
	d := databaseStatus{
		Captured:     s.Committed.ID,
		CapturedTime: jsonTime(s.Committed.Time),
		Shipped:      s.Shipped.ID,
		ShippedTime:  jsonTime(s.Shipped.Time),
		Queued:       s.Queued,
		QueuedBytes:  s.Bytes,
		Lag:          s.Lag.Seconds(),
		Error:        s.Error,
	}
	if s.Generation != 0 {
		d.Generation = s.Generation.String()
	}
	return d
}
