package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
)

// clients is what a command has opened that is about all clients below a URL, or
// about the one that the URL names.
type clients struct {
	url   generations.URL // of their root
	only  string          // the one client; "" for all
	store generations.Store
	packs *cache.Cache
}

// openClients opens what the URL arg names.
func openClients(ctx context.Context, cmd *cli.Command, arg string) (*clients, error) {
	u, err := parseReplica(cmd, arg)
	if err != nil {
		return nil, err
	}
	c := &clients{url: u}
	if c.store, err = openStore(ctx, u, false); err != nil {
		return nil, err
	}
	one, err := isClient(ctx, c.store)
	if err != nil {
		return nil, errors.Join(err, closeStore(c.store))
	}
	if root, client, ok := splitClient(u); one && ok {
		if err := closeStore(c.store); err != nil {
			return nil, err
		}
		c.url, c.only = root, client
		if c.store, err = openStore(ctx, root, false); err != nil {
			return nil, err
		}
	}
	if c.packs, err = cache.New(c.store, nil, cache.Options{}); err != nil {
		return nil, errors.Join(err, closeStore(c.store))
	}
	return c, nil
}

// Close lets go of what c holds.
func (c *clients) Close() error { return errors.Join(c.packs.Close(), closeStore(c.store)) }

// eachClient prints the rows that each client of c comes to. What is wrong with
// one of them does not keep it from the others; a store that fails does. That
// there is no client is said by the program p.
func eachClient[T any](ctx context.Context, p *program, cmd *cli.Command, c *clients, list *listing[T], rows func(client string) ([]T, error)) error {
	names := generations.Clients(ctx, c.store)
	if c.only != "" {
		names = func(yield func(string, error) bool) { yield(c.only, nil) }
	}
	found := false
	var failed []error
	for client, err := range names {
		if err != nil {
			failed = append(failed, err)
			break
		}
		found = true
		some, err := rows(client)
		for _, row := range some {
			if err := list.add(row); err != nil {
				return err
			}
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			failed = append(failed, err)
		}
		if ctx.Err() != nil || storeFails(err) {
			break
		}
	}
	if !found && len(failed) == 0 {
		fmt.Fprintf(p.stderr, "%s: no database under %s\n", cmd.FullName(), c.url)
	}
	return errors.Join(append(failed, list.end())...)
}

// storeFails reports whether err tells that a store did not answer, or that it
// could not: the next question would only be as long on its way.
func storeFails(err error) bool {
	store, ok := errors.AsType[*generations.StoreError](err)
	return ok && store.Kind == nil
}
