package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// side is somebody who looks after a directory of databases.
type side interface {
	name() string
	// start looks after the databases in at.data(), which exist, and returns when
	// a base image of each is in the store. The plain side starts nothing.
	start(ctx context.Context, at place) (*daemon, error)
	// shipped reports whether a path in the store is one of an object that
	// carries commits as they happen.
	shipped(path string) bool
	// restore writes the database as of an instant, "" being the newest.
	restore(ctx context.Context, at place, out, instant string) error
}

// plain is a directory that nobody looks after.
type plain struct{}

func (plain) name() string                                         { return sidePlain }
func (plain) start(context.Context, place) (*daemon, error)        { return nil, nil }
func (plain) shipped(string) bool                                  { return false }
func (plain) restore(context.Context, place, string, string) error { return nil }

// walback is the mount, with everything as it is by default.
type walback struct{ program string }

func (walback) name() string { return sideWalback }

func (w walback) start(ctx context.Context, at place) (*daemon, error) {
	return w.mount(ctx, at, "file://"+at.store())
}

// mount mounts at.data() and waits until the images are in at.store(), which is
// also where the S3 server keeps them.
func (w walback) mount(ctx context.Context, at place, url string) (*daemon, error) {
	d, err := startDaemon(at.data(), w.program, "mount", at.data(), url, "-cache-dir", at.cache(), "-log-level", "warn")
	if err != nil {
		return nil, err
	}
	if err := d.says(ctx, "mounted "); err != nil {
		return nil, err
	}
	return d, d.until(ctx, imagesIn(at, func(path string) bool {
		return filepath.Base(filepath.Dir(path)) == "snapshot"
	}))
}

func (walback) shipped(path string) bool {
	return filepath.Base(filepath.Dir(path)) == "wal" && filepath.Ext(path) == ".wal"
}

func (w walback) restore(ctx context.Context, at place, out, instant string) error {
	return w.restoreFrom(ctx, "file://"+at.store()+"/"+database, out, instant)
}

func (w walback) restoreFrom(ctx context.Context, url, out, instant string, flags ...string) error {
	args := append([]string{"restore", "-quiet", "-o", out, url}, flags...)
	if instant != "" {
		args = append(args, "-timestamp", instant)
	}
	return runQuietly(exec.CommandContext(ctx, w.program, args...))
}

// litestream runs beside a plain directory, with everything as it is by default.
type litestream struct{ program string }

func (litestream) name() string { return sideLitestream }

func (l litestream) start(ctx context.Context, at place) (*daemon, error) {
	config, err := l.config(at)
	if err != nil {
		return nil, err
	}
	d, err := startDaemon("", l.program, "replicate", "-config", config)
	if err != nil {
		return nil, err
	}
	return d, d.until(ctx, imagesIn(at, func(path string) bool { return filepath.Ext(path) == ".ltx" }))
}

// config writes the configuration for every database there is.
func (l litestream) config(at place) (string, error) {
	dbs, err := databasesIn(at.data())
	if err != nil {
		return "", err
	}
	var text strings.Builder
	text.WriteString("logging:\n  level: warn\ndbs:\n")
	for _, db := range dbs {
		fmt.Fprintf(&text, "  - path: %s\n    replica:\n      type: file\n      path: %s\n",
			db, filepath.Join(at.store(), filepath.Base(db)))
	}
	name := at.file("litestream.yml")
	return name, os.WriteFile(name, []byte(text.String()), 0o644)
}

func (litestream) shipped(path string) bool {
	return filepath.Base(filepath.Dir(path)) == "0" && filepath.Ext(path) == ".ltx"
}

func (l litestream) restore(ctx context.Context, at place, out, instant string) error {
	args := []string{"restore", "-o", out}
	if instant != "" {
		args = append(args, "-timestamp", instant)
	}
	return runQuietly(exec.CommandContext(ctx, l.program, append(args, "file://"+filepath.Join(at.store(), database))...))
}

// databasesIn returns the databases that lie in dir.
func databasesIn(dir string) ([]string, error) { return filepath.Glob(filepath.Join(dir, "*.db")) }

// imagesIn returns a function that reports whether the store has an object that
// match accepts for every database.
func imagesIn(at place, match func(string) bool) func() (bool, error) {
	return func() (bool, error) {
		dbs, err := databasesIn(at.data())
		if err != nil {
			return false, err
		}
		n, _, err := objects(at.store(), match)
		return n >= len(dbs), err
	}
}

// runQuietly runs a command whose output is of interest only when it fails.
func runQuietly(cmd *exec.Cmd) error {
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}
