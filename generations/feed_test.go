package generations

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/walback/walback/wal"
)

// A feed tells of what was put since it was last taken, and says when that was more
// than it holds.
func TestFeeds(t *testing.T) {
	var s feeds
	f, other := s.follow("acme"), s.follow("beta")
	put := func(first wal.TXID) PlanObject {
		o := PlanObject{Object: Object{Client: "acme", Generation: 1, Kind: SegmentObject, First: first}, Size: 1}
		s.put(o)
		return o
	}
	take := func(what string, wanted ...PlanObject) {
		t.Helper()
		if got, whole := s.take(f); !whole || !slices.Equal(got, wanted) {
			t.Errorf("%s: %v, whole %t; want %v", what, got, whole, wanted)
		}
	}
	missing := func(what string) {
		t.Helper()
		if got, whole := s.take(f); whole || len(got) > 0 {
			t.Errorf("%s: %v, whole %t; want to know that something is missing", what, got, whole)
		}
	}
	take("nothing was put")
	take("two were put", put(1), put(2))
	take("nothing since")
	for n := range wal.TXID(feedLength + 2) {
		put(n + 1)
	}
	missing("too much was put")
	take("one was put since", put(1))
	s.lose(f)
	put(2)
	missing("lost")
	if got, whole := s.take(other); len(got) > 0 || !whole {
		t.Errorf("the feed of another client has %v, whole %t", got, whole)
	}
	s.leave("acme", f)
	put(3)
	take("who has left is told nothing")
	s.leave("beta", other)
	if len(s.of) > 0 {
		t.Errorf("feeds are left: %v", s.of)
	}
}

// emptyStore has nothing, or cannot be listed.
type emptyStore struct {
	Store
	err error
}

func (s emptyStore) List(context.Context, string, string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if s.err != nil {
			yield(Entry{}, s.err)
		}
	}
}

func (emptyStore) String() string { return "empty" }

// Looking for clients that are not there leaves nothing behind, however often
// somebody does.
func TestNoFeedOfNobody(t *testing.T) {
	spool, err := OpenSpool(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	down := errors.New("down")
	for _, s := range []emptyStore{{}, {err: down}} {
		_, err := OpenTimeline(t.Context(), "nobody", s, spool, nil)
		if want := cmp.Or(s.err, ErrNoClient); !errors.Is(err, want) {
			t.Errorf("opened: %v, want %v", err, want)
		}
		if len(spool.feeds.of) > 0 {
			t.Errorf("a feed of nobody is left: %v", spool.feeds.of)
		}
	}
}
