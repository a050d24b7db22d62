package dirstore

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/walback/walback/generations"
)

// entry is what a directory has under one name.
type entry struct {
	name string
	dir  bool
}

// order is what e sorts by among its siblings so that whole keys come in
// order: every key in a directory "a" begins with "a/", which is behind "a-b".
func (e entry) order() string {
	if e.dir {
		return e.name + "/"
	}
	return e.name
}

// walker goes through the tree in key order, one directory in memory for each
// level it is down.
type walker struct {
	ctx context.Context
	// read gives the entries of a directory ("" is the root) in order. A
	// directory that is gone has none.
	read func(dir string) ([]entry, error)
	// stat gives the entry of a file.
	stat func(key string) (generations.Entry, error)
}

func (s *Store) walker(ctx context.Context) *walker {
	return &walker{ctx: ctx,
		read: func(dir string) ([]entry, error) { return s.readDir(ctx, dir) },
		stat: func(key string) (generations.Entry, error) {
			info, err := s.root.Lstat(key)
			if err != nil {
				return generations.Entry{}, err
			}
			return generations.Entry{Key: key, Size: info.Size(), Put: info.ModTime()}, nil
		},
	}
}

// readDir gives the entries of a directory that can be part of keys, in order.
func (s *Store) readDir(ctx context.Context, dir string) ([]entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if dir == "" {
		dir = "."
	}
	d, err := s.root.Open(dir)
	if absent(err) {
		return nil, s.rootGone("list")
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	infos, err := d.ReadDir(-1)
	if absent(err) { // a file, or removed while it was open
		return nil, s.rootGone("list")
	}
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(infos))
	for _, i := range infos {
		name := i.Name()
		if strings.HasPrefix(name, tmpPrefix) || !utf8.ValidString(name) {
			continue
		}
		if i.IsDir() || i.Type().IsRegular() {
			entries = append(entries, entry{name, i.IsDir()})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.order(), b.order()) })
	return entries, nil
}

// List implements generations.Store. Objects put or deleted meanwhile are told
// of or not.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[generations.Entry, error] {
	return func(yield func(generations.Entry, error) bool) {
		if err := generations.CheckPrefix(prefix); err != nil {
			yield(generations.Entry{}, s.invalid("list", err))
			return
		}
		err := s.walker(ctx).list(prefix, after, func(e generations.Entry) bool { return yield(e, nil) })
		if err != nil && !errors.Is(err, errStopped) {
			yield(generations.Entry{}, s.fail("list", prefix, err))
		}
	}
}

// errStopped ends a walk whose consumer has seen enough.
var errStopped = errors.New("stopped")

// list yields the objects below prefix ("" or ending in a slash) whose keys are
// behind after.
func (w *walker) list(prefix, after string, yield func(generations.Entry) bool) error {
	if after > prefix && !strings.HasPrefix(after, prefix) {
		return nil // all keys below prefix are before after
	}
	entries, err := w.read(strings.TrimSuffix(prefix, "/"))
	if err != nil {
		return err
	}
	if name, ok := strings.CutPrefix(after, prefix); ok {
		// Begin at the first entry that after is not behind of.
		i, _ := slices.BinarySearchFunc(entries, name, func(e entry, name string) int {
			if e.dir && strings.HasPrefix(name, e.order()) {
				return 0
			}
			return strings.Compare(e.order(), name)
		})
		entries = entries[i:]
	}
	for _, e := range entries {
		key := prefix + e.name
		if e.dir {
			if err := w.list(key+"/", after, yield); err != nil {
				return err
			}
			continue
		}
		if key <= after {
			continue
		}
		if err := w.ctx.Err(); err != nil {
			return err
		}
		found, err := w.stat(key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since the directory was read
		}
		if err != nil {
			return err
		}
		if !yield(found) {
			return errStopped
		}
	}
	return nil
}

// hasObject tells whether there is any object below dir.
func (w *walker) hasObject(dir string) (bool, error) {
	entries, err := w.read(dir)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(entries, func(e entry) bool { return !e.dir }) {
		return true, nil
	}
	for _, e := range entries {
		if some, err := w.hasObject(dir + "/" + e.name); some || err != nil {
			return some, err
		}
	}
	return false, nil
}
