package dirstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/dirstore"
	"github.com/walback/walback/generations/storetest"
)

func open(t testing.TB, dir string, o dirstore.Options) *dirstore.Store {
	t.Helper()
	s, err := dirstore.New(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s generations.Store, key string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), key, storetest.Body(data)); err != nil {
		t.Fatal(err)
	}
}

func keys(t testing.TB, s generations.Store) []string {
	t.Helper()
	var all []string
	for e, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Key)
	}
	return all
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) generations.Store { return open(t, t.TempDir(), dirstore.Options{}) })
}

func TestRootMissing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	_, err := dirstore.New(dir, dirstore.Options{})
	if !errors.Is(err, generations.ErrNoBucket) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a reader is told %v", err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a reader made a directory: %v", err)
	}
	s := open(t, dir, dirstore.Options{Create: true})
	open(t, dir, dirstore.Options{Create: true})
	open(t, dir, dirstore.Options{})
	if want := "file://" + dir; s.String() != want {
		t.Errorf("it calls itself %s, want %s", s, want)
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []dirstore.Options{{}, {Create: true}} {
		if _, err := dirstore.New(file, o); err == nil || !strings.Contains(err.Error(), file+": not a directory") {
			t.Errorf("a file as root: %v", err)
		}
		if _, err := dirstore.New(filepath.Join(file, "x"), o); err == nil {
			t.Error("a root below a file was opened")
		}
	}
}

// TestRootRemoved: a store that is gone does not look like an empty one, and is
// not made again.
func TestRootRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir, dirstore.Options{Create: true})
	put(t, s, "c/object", []byte("x"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	var errs []error
	for _, key := range []string{"c/object", "c/new", "new"} {
		_, err := s.Get(t.Context(), key, 0, -1)
		errs = append(errs, err, s.Put(t.Context(), key, storetest.Body(nil)))
	}
	for _, err := range s.List(t.Context(), "", "") {
		errs = append(errs, err)
	}
	for _, err := range s.Dirs(t.Context(), "c/") {
		errs = append(errs, err)
	}
	if len(errs) != 8 {
		t.Fatalf("%d answers", len(errs))
	}
	for i, err := range errs {
		if !errors.Is(err, generations.ErrNoBucket) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the root is back: %v", err)
	}
}

// TestLeftOvers: what a crash leaves is never listed, and removed when it is
// surely nobody's any more.
func TestLeftOvers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, dirstore.Options{})
	put(t, s, "c/wal/1", nil)
	old := filepath.Join(dir, "c/wal/.walback-tmp-OLD")
	young := filepath.Join(dir, "c/wal/.walback-tmp-YOUNG")
	for _, name := range []string{old, young, filepath.Join(dir, ".walback-tmp-TOP")} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "empty", ".walback-tmp-ONLY"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, s); len(got) != 1 || got[0] != "c/wal/1" {
		t.Errorf("listed: %q", got)
	}
	for d, err := range s.Dirs(t.Context(), "") {
		if d != "c" || err != nil {
			t.Errorf("directory %q, %v", d, err)
		}
	}
	if err := s.Put(t.Context(), "c/wal/.walback-tmp-OLD", storetest.Body(nil)); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("put under a temporary name: %v", err)
	}

	for name, use := range map[string]func(s *dirstore.Store) error{
		"put":    func(s *dirstore.Store) error { return s.Put(t.Context(), "c/wal/2", storetest.Body(nil)) },
		"delete": func(s *dirstore.Store) error { return s.Delete(t.Context(), "c/wal/2") },
	} {
		if err := os.WriteFile(old, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(old, past, past); err != nil {
			t.Fatal(err)
		}
		if err := use(open(t, dir, dirstore.Options{})); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after the next %s: %v", name, err)
		}
		if _, err := os.Stat(young); err != nil {
			t.Errorf("after the next %s: %v", name, err)
		}
	}
}

func TestDeleteRemovesDirectories(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, dirstore.Options{})
	put(t, s, "a/b/c/1", nil)
	put(t, s, "a/b/2", nil)
	for _, step := range []struct{ key, gone, stays string }{{"a/b/c/1", "a/b/c", "a/b"}, {"a/b/2", "a", "."}} {
		if err := s.Delete(t.Context(), step.key); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, step.gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", step.gone, err)
		}
		if _, err := os.Stat(filepath.Join(dir, step.stays)); err != nil {
			t.Error(err)
		}
	}
}

// TestDirectoriesComeAndGo lets workers put and delete in the same directories,
// which become empty all the time.
func TestDirectoriesComeAndGo(t *testing.T) {
	s := open(t, t.TempDir(), dirstore.Options{NoSync: true})
	g, ctx := errgroup.WithContext(t.Context())
	for worker := range 8 {
		g.Go(func() error {
			for round := range 300 {
				key := fmt.Sprintf("a/b%d/c/%d", round%2, worker)
				if err := s.Put(ctx, key, storetest.Body([]byte(key))); err != nil {
					return err
				}
				b, err := s.Get(ctx, key, 0, -1)
				if err != nil {
					return err
				}
				got, err := io.ReadAll(b)
				if err := errors.Join(err, b.Close(), s.Delete(ctx, key)); err != nil {
					return err
				}
				if string(got) != key {
					return fmt.Errorf("%s holds %q", key, got)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(strings.TrimPrefix(s.String(), "file://")); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestForeign: what others put into the directory is no object.
func TestForeign(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	s := open(t, dir, dirstore.Options{})
	put(t, s, "object", []byte("x"))
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := errors.Join(
		os.Symlink(outside, filepath.Join(dir, "link")),
		os.Symlink("object", filepath.Join(dir, "alias")),
		syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
		os.WriteFile(filepath.Join(dir, "\xff"), nil, 0o600),
		os.Mkdir(filepath.Join(dir, "directory"), 0o700),
	)
	if err != nil {
		t.Fatal(err)
	}
	if got := keys(t, s); len(got) != 1 {
		t.Errorf("listed: %q", got)
	}
	if _, err := s.Get(t.Context(), "link/secret", 0, -1); err == nil {
		t.Error("a link leads out of the store")
	}
	if err := s.Put(t.Context(), "link/new", storetest.Body(nil)); err == nil {
		t.Error("a link leads out of the store")
	}
	if _, err := s.Get(t.Context(), "fifo", 0, -1); !errors.Is(err, generations.ErrNotFound) {
		t.Errorf("get of a FIFO: %v", err)
	}
	for _, key := range []string{"fifo", "directory", "alias"} {
		err := s.Put(t.Context(), key, storetest.Body(nil))
		if err == nil || errors.Is(err, generations.ErrExists) || !strings.Contains(err.Error(), "no object") {
			t.Errorf("put in place of the %s: %v", key, err)
		}
	}
	if err := s.Put(t.Context(), "object/below", storetest.Body(nil)); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("put below an object: %v", err)
	}
}

func TestBadNames(t *testing.T) {
	s := open(t, t.TempDir(), dirstore.Options{})
	for _, key := range []string{"a\x00b", "dir/" + strings.Repeat("x", 256), ".walback-tmp-X", "a/.walback-tmp-/b"} {
		_, err := s.Get(t.Context(), key, 0, -1)
		for _, err := range []error{err, s.Put(t.Context(), key, storetest.Body(nil)), s.Delete(t.Context(), key)} {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%q: %v", key, err)
			}
		}
	}
	put(t, s, "dir/"+strings.Repeat("x", 255), nil)
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	s := open(t, dir, dirstore.Options{Create: true})
	put(t, s, "c/object", []byte("private"))
	for name, want := range map[string]fs.FileMode{"": 0o700, "c": 0o700, "c/object": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q has mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}

func TestObjectBecomesShorter(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, dirstore.Options{})
	put(t, s, "object", bytes.Repeat([]byte("x"), 100))
	b, err := s.Get(t.Context(), "object", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := os.Truncate(filepath.Join(dir, "object"), 50); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); len(got) != 50 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

// FuzzKeys: a key that is taken comes back as it is, and the others are refused.
func FuzzKeys(f *testing.F) {
	for _, key := range []string{"c1/generations/0/wal/1.wal", "a b/ü\n", "..", "a//b", "\xff", strings.Repeat("x", 300)} {
		f.Add(key)
	}
	s := open(f, f.TempDir(), dirstore.Options{NoSync: true}) // one for all, each leaves it empty
	f.Fuzz(func(t *testing.T, key string) {
		err := s.Put(t.Context(), key, storetest.Body([]byte("x")))
		if errors.Is(err, fs.ErrInvalid) || errors.Is(err, syscall.ENAMETOOLONG) {
			if got := keys(t, s); len(got) > 0 {
				t.Errorf("%q was refused and put as %q", key, got)
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		if got := keys(t, s); len(got) != 1 || got[0] != key {
			t.Errorf("put as %q, listed as %q", key, got)
		}
		if err := s.Delete(t.Context(), key); err != nil || len(keys(t, s)) > 0 {
			t.Errorf("delete of %q: %v", key, err)
		}
	})
}
