package generations

import (
	"context"
	"iter"

	"github.com/walback/walback/wal/pack"
)

// Opener opens objects that a plan names, stored or local. The error matches
// fs.ErrNotExist when the object has gone since it was listed.
type Opener interface {
	OpenPack(ctx context.Context, o PlanObject) (*pack.Reader, error)
}

// Clients yields the clients that have a generation in s. It asks for the names
// in every directory that may hold clients, and reads no objects.
func Clients(ctx context.Context, s Store) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		walkClients(ctx, s, "", yield)
	}
}

// walkClients yields the clients at and below the directory dir ("" is the
// root); false when no more are wanted.
func walkClients(ctx context.Context, s Store, dir string, yield func(string, error) bool) bool {
	level, err := ReadLevel(ctx, s, dir)
	if err != nil {
		yield("", err)
		return false
	}
	if level.Client && !yield(dir, nil) {
		return false
	}
	for _, name := range level.Below {
		if !walkClients(ctx, s, join(dir, name), yield) {
			return false
		}
	}
	return true
}

// Level is what a store has directly in one directory.
type Level struct {
	Client bool // the directory is one
	// Below are the names of the directories in it that may be clients, or lead to
	// some, in order. What else is below the root of the store is in here as well.
	Below []string
}

// ReadLevel looks into the directory dir ("" is the root), with one request or
// two. A directory called "generations" is where the client around it has its
// generations, but the name of another client may go through it as well.
func ReadLevel(ctx context.Context, s Store, dir string) (Level, error) {
	var level Level
	_, own := cutLast(dir)
	for name, err := range s.Dirs(ctx, inside(dir)) {
		if err != nil {
			return Level{}, err
		}
		if own == generationsDir && isID(name) {
			continue // a generation, not a directory of clients
		}
		if name == generationsDir && dir != "" {
			var others bool
			if level.Client, others, err = insideGenerations(ctx, s, inside(join(dir, name))); err != nil {
				return Level{}, err
			}
			if !others {
				continue
			}
		}
		level.Below = append(level.Below, name)
	}
	return level, nil
}

// join returns what name is called in the directory dir.
func join(dir, name string) string { return inside(dir) + name }

// inside is what all names in the directory dir begin with.
func inside(dir string) string {
	if dir == "" {
		return ""
	}
	return dir + "/"
}

func isID(s string) bool {
	_, err := ParseID(s)
	return err == nil
}

// insideGenerations reports whether a directory called "generations" holds
// generations, and whether it holds others.
func insideGenerations(ctx context.Context, s Store, prefix string) (is, others bool, err error) {
	for name, err := range s.Dirs(ctx, prefix) {
		if err != nil {
			return false, false, err
		}
		if isID(name) {
			is = true
		} else {
			others = true
		}
	}
	return is, others, nil
}
