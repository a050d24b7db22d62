package storetest_test

import (
	"io"
	"testing"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/dirstore"
	"github.com/walback/walback/generations/storetest"
)

func open(t *testing.T) *storetest.Counter {
	t.Helper()
	s, err := dirstore.New(t.TempDir(), dirstore.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return storetest.Counting(s)
}

func TestCountingIsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) generations.Store { return open(t) })
}

func TestCounting(t *testing.T) {
	s := open(t)
	ctx := t.Context()
	for _, key := range []string{"a/1", "a/2", "b/1"} {
		if err := s.Put(ctx, key, storetest.Body(make([]byte, 100))); err != nil {
			t.Fatal(err)
		}
	}
	b, err := s.Get(ctx, "a/1", 10, 20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, b); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if _, err := s.Get(ctx, "a/none", 0, -1); err == nil {
		t.Fatal("got what is not there")
	}
	for range s.List(ctx, "a/", "") {
	}
	for range s.Dirs(ctx, "") {
	}
	if err := s.Delete(ctx, "b/1"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what      string
		got, want storetest.Counts
	}{
		{"a/1", s.Key("a/1"), storetest.Counts{Gets: 1, Puts: 1, Read: 20, Written: 100}},
		{"below a/", s.Below("a/"), storetest.Counts{Gets: 2, Puts: 2, Lists: 1, Read: 20, Written: 200}},
		{"all", s.Reset(), storetest.Counts{Gets: 2, Puts: 3, Lists: 1, Dirs: 1, Deletes: 1, Read: 20, Written: 300}},
		{"after Reset", s.Total(), storetest.Counts{}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, c.got, c.want)
		}
	}
}
