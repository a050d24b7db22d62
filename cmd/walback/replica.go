package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/dirstore"
	"github.com/walback/walback/generations/s3store"
)

// parseReplica parses an argument that is a replica URL.
func parseReplica(cmd *cli.Command, arg string) (generations.URL, error) {
	u, err := generations.ParseURL(arg)
	if err != nil {
		return generations.URL{}, misuse(cmd, "%s", oneLine(err))
	}
	return u, nil
}

// openStore opens the store at u. A directory that does not exist is made only
// for a writer.
func openStore(ctx context.Context, u generations.URL, write bool) (generations.Store, error) {
	if u.Scheme == "file" {
		return dirstore.New(u.Dir, dirstore.Options{Create: write})
	}
	return s3store.New(ctx, s3store.Options{
		Bucket:    u.Bucket,
		Prefix:    u.Prefix,
		Endpoint:  u.Endpoint,
		Region:    u.Region,
		PathStyle: u.PathStyle,
	})
}

// probeTimeout bounds how long a mount waits for the first answer of a store.
const probeTimeout = 20 * time.Second

// openRoot opens the store at u, which must be a root and not one client, and
// proves that it answers. Once something is mounted, a store that does not is
// asked again for ever; before that, it is better said at once.
func openRoot(ctx context.Context, u generations.URL, write bool) (generations.Store, error) {
	return openRootWithin(ctx, probeTimeout, u, write)
}

// openRootWithin is openRoot with another timeout.
func openRootWithin(ctx context.Context, timeout time.Duration, u generations.URL, write bool) (generations.Store, error) {
	store, err := openStore(ctx, u, write)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%s does not answer within %s", u, timeout))
	defer cancel()
	one, err := isClient(ctx, store)
	switch {
	case err != nil && ctx.Err() != nil:
		err = &unansweredError{context.Cause(ctx)}
	case err != nil && !errors.Is(err, generations.ErrDenied) && !errors.Is(err, generations.ErrNoBucket):
		err = &unansweredError{err}
	case err == nil && one:
		root, client, _ := splitClient(u)
		err = fmt.Errorf("%s is one client, %s: give the root above it, %s", u, client, root)
	}
	if err != nil {
		return nil, errors.Join(err, closeStore(store))
	}
	return store, nil
}

// unansweredError is of a store that may answer later.
type unansweredError struct{ error }

func (e *unansweredError) Unwrap() error { return e.error }

// splitClient takes the last element off u: what is in front of it is the root
// as far as that one client is concerned. A client such as eu/app.db of the root
// s3://b/databases is thus found as app.db of s3://b/databases/eu, under the
// same keys. ok is false when u has no element to take.
func splitClient(u generations.URL) (root generations.URL, client string, ok bool) {
	root = u
	whole := &root.Prefix
	if u.Scheme == "file" {
		whole = &root.Dir
	}
	dir, client := path.Split(*whole)
	*whole = strings.TrimSuffix(dir, "/")
	if u.Scheme == "file" {
		*whole = path.Clean(dir)
	}
	return root, client, client != ""
}

// joinClient returns the URL of client under the root u.
func joinClient(u generations.URL, client string) generations.URL {
	if u.Scheme == "file" {
		u.Dir = path.Join(u.Dir, client)
	} else {
		u.Prefix = path.Join(u.Prefix, client)
	}
	return u
}

// isClient reports whether s is the place of one client: its generations lie
// directly under it.
func isClient(ctx context.Context, s generations.Store) (bool, error) {
	for name, err := range s.Dirs(ctx, "generations/") {
		if err != nil {
			return false, err
		}
		if _, err := generations.ParseID(name); err == nil {
			return true, nil
		}
	}
	return false, nil
}

// past is what a command needs to look at one client's past from the store
// alone.
type past struct {
	client   string
	store    generations.Store
	cache    *cache.Cache
	timeline *generations.Timeline
}

// openPast opens the client that the URL arg names.
func openPast(ctx context.Context, cmd *cli.Command, arg string) (*past, error) {
	u, err := parseReplica(cmd, arg)
	if err != nil {
		return nil, err
	}
	root, client, ok := splitClient(u)
	if !ok {
		return nil, misuse(cmd, "%s names no client: write %s (walback databases %s lists them)", u, joinClient(u, "CLIENT"), u)
	}
	store, err := openStore(ctx, root, false)
	if err != nil {
		return nil, err
	}
	packs, err := cache.New(store, nil, cache.Options{})
	if err != nil {
		return nil, errors.Join(err, closeStore(store))
	}
	p := &past{client: client, store: store, cache: packs}
	p.timeline, err = generations.OpenTimeline(ctx, client, store, nil, packs)
	if errors.Is(err, generations.ErrNoClient) {
		err = explainNoClient(ctx, u, root, client)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close lets go of what p holds.
func (p *past) Close() error { return errors.Join(p.cache.Close(), closeStore(p.store)) }

// closeStore closes s if it is of a kind that can be closed.
func closeStore(s generations.Store) error {
	if c, ok := s.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// explainNoClient says why u names no client: because it is the root of some, or
// because there is none of that name.
func explainNoClient(ctx context.Context, u, root generations.URL, client string) error {
	store, err := openStore(ctx, u, false)
	if err == nil {
		defer closeStore(store)
		for name, err := range generations.Clients(ctx, store) {
			if err != nil {
				break
			}
			return fmt.Errorf("%s is no client but has clients below it: name one, such as %s (walback databases %s lists them)", u, joinClient(u, name), u)
		}
	}
	err = fmt.Errorf("no client %q under %s: walback databases %s lists those there are", client, root, root)
	if parent, name, ok := splitClient(root); ok && client == generations.DefaultFile {
		err = fmt.Errorf("%w (the database %s/%s of a mount is the client %s of %s)", err, name, client, name, parent)
	}
	return err
}
