package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal/pack"
)

// dated is a store in a directory that tells of objects as put when they would have
// been, about the time of the last transaction in them: whoever looks for an instant
// is led by that.
type dated struct {
	generations.Store
	dir string
}

// Put implements generations.Store.
func (d *dated) Put(ctx context.Context, key string, body *io.SectionReader) error {
	if err := d.Store.Put(ctx, key, body); err != nil {
		return err
	}
	at, err := dateOf(key, body)
	if err != nil {
		return err
	}
	return os.Chtimes(filepath.Join(d.dir, filepath.FromSlash(key)), at, at)
}

func dateOf(key string, body *io.SectionReader) (time.Time, error) {
	o, err := generations.ParseKey(key)
	if err != nil {
		return time.Time{}, err
	}
	if o.Kind == generations.ManifestObject {
		return o.Generation.Time().Std(), nil
	}
	r, err := pack.Open(body, body.Size(), o.Place(), pack.ReaderOptions{})
	if err != nil {
		return time.Time{}, err
	}
	return r.Info().Last.Time.Std(), nil
}
