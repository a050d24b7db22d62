package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// place is where one side works in one round: its directories lie side by side.
type place string

// database is the file name of the one database of most measures, and with
// walback its client.
const database = "app.db"

func makePlace(dir string) (place, error) {
	p := place(dir)
	return p, errors.Join(os.MkdirAll(p.data(), 0o755), os.MkdirAll(p.store(), 0o755))
}

func (p place) data() string            { return filepath.Join(string(p), "data") }
func (p place) store() string           { return filepath.Join(string(p), "store") }
func (p place) cache() string           { return filepath.Join(string(p), "cache") }
func (p place) db() string              { return filepath.Join(p.data(), database) }
func (p place) file(name string) string { return filepath.Join(string(p), name) }

func (p place) remove() error { return os.RemoveAll(string(p)) }

// objects counts the files below dir whose path match accepts, and their bytes.
// Those that go while it looks are not counted.
func objects(dir string, match func(path string) bool) (n int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() || !match(path) {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			n++
			bytes += info.Size()
		}
		return err
	})
	return n, bytes, err
}
