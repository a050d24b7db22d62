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
// root); false when no more are wanted. A directory called "generations" is
// where the client around it has its generations, but the name of another
// client may go through it as well.
func walkClients(ctx context.Context, s Store, dir string, yield func(string, error) bool) bool {
	prefix := dir
	if dir != "" {
		prefix += "/"
	}
	_, own := cutLast(dir)
	var below []string
	for name, err := range s.Dirs(ctx, prefix) {
		if err != nil {
			yield("", err)
			return false
		}
		if own == generationsDir && isID(name) {
			continue // a generation, not a directory of clients
		}
		if name == generationsDir && dir != "" {
			is, others, err := insideGenerations(ctx, s, prefix+name+"/")
			if err != nil {
				yield("", err)
				return false
			}
			if is && !yield(dir, nil) {
				return false
			}
			if !others {
				continue
			}
		}
		below = append(below, prefix+name)
	}
	for _, d := range below {
		if !walkClients(ctx, s, d, yield) {
			return false
		}
	}
	return true
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
