package main

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/dirstore"
	"github.com/walback/walback/generations/s3store"
)

// shipping is what a mount ships with, and its own idea of when.
type shipping struct {
	store   *counted
	young   *young
	spool   *generations.Spool
	home    string // where the spool belongs
	cache   *cache.Cache
	shipper *generations.Shipper
	writer  *generations.Writer
	flushed int
}

// newShipping begins to ship a database of so many bytes in dir.
func newShipping(ctx context.Context, dir string, url generations.URL, size int64) (s *shipping, err error) {
	s = &shipping{}
	store, err := openStore(ctx, url)
	if err != nil {
		return nil, err
	}
	if url.Scheme == "file" {
		store = &dated{Store: store, dir: url.Dir}
	}
	s.young = newYoung(store)
	s.store = &counted{Store: s.young}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	s.home = generations.SpoolDir(dir, url.String())
	at, err := spoolPlace(s.home, size)
	if err != nil {
		return nil, err
	}
	if s.spool, err = generations.OpenSpool(at, url.String()); err != nil {
		return nil, err
	}
	if s.cache, err = cache.New(s.store, s.spool, cache.Options{}); err != nil {
		return nil, errors.Join(err, s.spool.Close(), bringHome(at, s.home))
	}
	s.shipper = generations.NewShipper(s.store, s.spool, generations.ShipperOptions{
		OnlyFlush: true,
		// A month leaves merging all the time that it takes.
		Merge:  generations.MergeOptions{Share: 1, Grace: grace},
		Packs:  s.cache,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if s.writer, err = s.shipper.Database(database, database); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// openStore opens the store at a URL. What is made for a measurement need not
// survive a power failure.
func openStore(ctx context.Context, u generations.URL) (generations.Store, error) {
	if u.Scheme == "file" {
		return dirstore.New(u.Dir, dirstore.Options{Create: true, NoSync: true})
	}
	return s3store.New(ctx, s3store.Options{Bucket: u.Bucket, Prefix: u.Prefix, Endpoint: u.Endpoint,
		Region: u.Region, PathStyle: u.PathStyle})
}

// grace is shorter than that of a mount, since there is nobody else who reads, and
// what is read here is final.
const grace = 10 * time.Second

// behind is how many segments merging may be behind: it goes on beside, as in a
// mount, and is waited for now and then.
const behind = 16

// flush returns when what has been appended is in the store.
func (s *shipping) flush(ctx context.Context) error {
	err := errors.Join(s.shipper.Flush(ctx), s.writer.Err())
	if s.flushed++; err == nil && s.flushed%behind == 0 {
		err = s.shipper.Merged(ctx)
	}
	return err
}

// settle returns when everything is stored.
func (s *shipping) settle(ctx context.Context) error {
	if err := errors.Join(s.writer.Close(), s.shipper.Flush(ctx), s.shipper.Merged(ctx)); err != nil {
		return err
	}
	if err := tidy(ctx, s.store, database); err != nil {
		return err
	}
	return s.young.settle(ctx)
}

func (s *shipping) close() error {
	errs := []error{s.shipper.Close(), s.cache.Close(), s.spool.Close(), bringHome(s.spool.Dir(), s.home)}
	if c, ok := s.young.Store.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// counted is a store that counts what is asked of it.
type counted struct {
	generations.Store
	puts, gets, lists, deletes, written, read atomic.Int64
}

// tell writes the counts into s.
func (c *counted) tell(s *summary) {
	s.Puts, s.Gets, s.Lists, s.Deletes = c.puts.Load(), c.gets.Load(), c.lists.Load(), c.deletes.Load()
	s.Written, s.Read = c.written.Load(), c.read.Load()
}

// Put implements generations.Store.
func (c *counted) Put(ctx context.Context, key string, body *io.SectionReader) error {
	c.puts.Add(1)
	c.written.Add(body.Size())
	return c.Store.Put(ctx, key, body)
}

// Get implements generations.Store.
func (c *counted) Get(ctx context.Context, key string, off, n int64) (*generations.Body, error) {
	c.gets.Add(1)
	b, err := c.Store.Get(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	return &generations.Body{ReadCloser: &countedBody{b.ReadCloser, &c.read}, ObjectSize: b.ObjectSize}, nil
}

type countedBody struct {
	io.ReadCloser
	read *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	return n, err
}

// List implements generations.Store.
func (c *counted) List(ctx context.Context, prefix, after string) iter.Seq2[generations.Entry, error] {
	c.lists.Add(1)
	return c.Store.List(ctx, prefix, after)
}

// Delete implements generations.Store.
func (c *counted) Delete(ctx context.Context, key string) error {
	c.deletes.Add(1)
	return c.Store.Delete(ctx, key)
}
