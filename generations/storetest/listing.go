package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/generations"
)

// putAll puts small objects, their keys as content, several at a time.
func putAll(t *testing.T, s generations.Store, keys []string) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(16)
	for _, key := range keys {
		g.Go(func() error { return s.Put(ctx, key, Body([]byte(key))) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// wantListings compares List and Dirs with what keys say, for every prefix that
// there is, and behind every key, and before and behind it by a little.
func wantListings(t *testing.T, s generations.Store, keys []string) {
	t.Helper()
	slices.Sort(keys)
	prefixes := map[string]bool{"": true, "none/": true}
	for _, k := range keys {
		for i, c := range k {
			if c == '/' {
				prefixes[k[:i+1]] = true
			}
		}
	}
	afters := []string{""}
	for _, k := range keys {
		afters = append(afters, k, k+"!", k[:strings.LastIndex(k, "/")+1])
	}
	for prefix := range prefixes {
		wantDirs(t, s, prefix, modelDirs(keys, prefix))
		below := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return !strings.HasPrefix(k, prefix) })
		for _, after := range afters {
			want := slices.DeleteFunc(slices.Clone(below), func(k string) bool { return k <= after })
			if len(prefix) == 0 || len(below) > 1 || after == "" || strings.HasPrefix(after, prefix) {
				wantKeys(t, s, prefix, after, want...)
			}
		}
	}
}

// modelDirs is what Dirs says of sorted keys: names in the order of the keys,
// which is that of the names with a slash behind them.
func modelDirs(keys []string, prefix string) []string {
	var names []string
	for _, k := range keys {
		rest, ok := strings.CutPrefix(k, prefix)
		name, _, isDir := strings.Cut(rest, "/")
		if ok && isDir && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func wantDirs(t *testing.T, s generations.Store, prefix string, want []string) {
	t.Helper()
	got, err := dirs(t.Context(), s, prefix)
	if err != nil {
		t.Fatalf("dirs: %v", err)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("directories below %q:\n got %q\nwant %q", prefix, got, want)
	}
}

func testOrder(t *testing.T, s generations.Store) {
	// What sorts before a slash (! - .) and behind it (0 a ~) follows each name.
	keys := []string{
		"a/b", "a-b", "a.b", "a0", "aa", "a!/x", "a-/x", "a/b-c/d", "a/bc",
		"c1/generations/01/generation.json", "c1/generations/01/snapshot/0000000001.snap",
		"c1/generations/01/wal/0000000002.wal", "c1/generations/01/wal/0000000010-0000000020.wal",
		"c1/generations/02/generation.json", "c1-old/generations/01/generation.json", "eu/app.db/generations/01/generation.json",
		"eu.txt", "z",
	}
	putAll(t, s, keys)
	wantListings(t, s, keys)

	// A consumer that has seen enough is not called again.
	seen := 0
	for range s.List(t.Context(), "", "") {
		if seen++; seen == 3 {
			break
		}
	}
	for range s.Dirs(t.Context(), "") {
		break
	}
}

func testOddKeys(t *testing.T, s generations.Store) {
	keys := []string{
		"with space/a b", "plus+and%20/100%", "a&b=c?d#e", "quotes'\"/<xml>&amp;", `back\slash`, "semi;colon,comma",
		"ünï/çødé", "日本語/データ.db", "emoji/😀", "e\u0301 is not \u00e9", "tilde~/!*()'", "@1234", "$HOME/{x}[y]^`|",
		"-dash", ".hidden/.file", "a...b", "upper/A", "upper/a", "tab\tand\nnewline", "c:d",
		"long/" + strings.Repeat("x", 200) + "/" + strings.Repeat("é", 60),
	}
	putAll(t, s, keys)
	for _, k := range keys {
		wantObject(t, s, k, []byte(k))
	}
	wantListings(t, s, keys)
	for _, k := range keys {
		if err := s.Delete(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	wantKeys(t, s, "", "")
}

// testManyKeys lists more than S3 tells in one answer (1000).
func testManyKeys(t *testing.T, s generations.Store) {
	const n = 1010
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("many/%04d/x", i)
	}
	putAll(t, s, keys)
	for _, from := range []int{0, 5, 1000, n} {
		after := ""
		if from > 0 {
			after = keys[from-1]
		}
		wantKeys(t, s, "many/", after, keys[from:]...)
	}
	wantKeys(t, s, "many/1002/", "", "many/1002/x")
	wantDirs(t, s, "", []string{"many"})
	wantDirs(t, s, "many/", modelDirs(keys, "many/"))
}
