package dirstore

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/walback/walback/generations"
)

// tree is the walker of a tree that is in memory, which notes what is read.
func tree(t *rapid.T, keys []string, visited map[string]bool) *walker {
	return &walker{ctx: t.Context(),
		read: func(dir string) ([]entry, error) {
			visited[dir] = true
			found := map[entry]bool{}
			for _, k := range keys {
				if dir != "" {
					var ok bool
					if k, ok = strings.CutPrefix(k, dir+"/"); !ok {
						continue
					}
				}
				name, _, isDir := strings.Cut(k, "/")
				found[entry{name, isDir}] = true
			}
			return slices.SortedFunc(maps.Keys(found), func(a, b entry) int { return strings.Compare(a.order(), b.order()) }), nil
		},
		stat: func(key string) (generations.Entry, error) {
			return generations.Entry{Key: key, Size: int64(len(key))}, nil
		},
	}
}

// TestWalk lists random trees: in order, only what is behind after, and without
// reading directories that lie in front of it.
func TestWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		element := rapid.StringMatching(`[a!./0~-]{1,3}`).Filter(func(s string) bool { return !strings.Contains(s, "/") })
		path := rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(element, 1, 4).Draw(t, "path"), "/")
		})
		keys := rapid.SliceOfNDistinct(path, 0, 20, rapid.ID).Draw(t, "keys")
		keys = slices.DeleteFunc(keys, func(k string) bool { // no key is a directory of another
			return slices.ContainsFunc(keys, func(o string) bool { return strings.HasPrefix(o, k+"/") })
		})
		slices.Sort(keys)
		prefix := ""
		if rapid.Bool().Draw(t, "below") {
			prefix = path.Draw(t, "prefix") + "/"
		}
		after := rapid.OneOf(path, rapid.Just("")).Draw(t, "after")

		var got []string
		visited := map[string]bool{}
		err := tree(t, keys, visited).list(prefix, after, func(e generations.Entry) bool {
			got = append(got, e.Key)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return !strings.HasPrefix(k, prefix) || k <= after })
		if !slices.Equal(got, want) {
			t.Fatalf("list %q after %q of %q:\n got %q\nwant %q", prefix, after, keys, got, want)
		}
		for dir := range visited {
			if dir != "" && after > dir+"/" && !strings.HasPrefix(after, dir+"/") {
				t.Fatalf("list %q after %q of %q: read %q, which lies in front", prefix, after, keys, dir)
			}
		}
	})
}

// TestLink publishes by hard link, as on filesystems that cannot do otherwise.
func TestLink(t *testing.T) {
	name := t.TempDir()
	dir, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for round, want := range []error{nil, fs.ErrExist} {
		tmp := name + "/tmp"
		if err := os.WriteFile(tmp, []byte{byte(round)}, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := link(dir, "tmp", "object"); !errors.Is(err, want) {
			t.Errorf("round %d: %v, want %v", round, err, want)
		}
		if _, err := os.Lstat(tmp); (err == nil) != (want != nil) {
			t.Errorf("round %d: the temporary name: %v", round, err)
		}
		if got, err := os.ReadFile(name + "/object"); err != nil || got[0] != 0 {
			t.Errorf("round %d: the object is %v, %v", round, got, err)
		}
	}
}
