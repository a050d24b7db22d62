package generations

import (
	"slices"
	"sync"
)

// feeds tell those who look at a client beside a live mount of what the mount
// puts into the store, so that they need not ask the store.
type feeds struct {
	mu sync.Mutex
	of map[string][]*feed // by client
}

// feed is what has been put of a client since it was last taken.
type feed struct {
	objects []PlanObject
	missed  bool // more was put than a feed holds: the store has to be asked
}

// feedLength is how many objects a feed holds at most. While nobody looks at a
// client, nobody takes what is in its feed.
const feedLength = 4096

// follow begins a feed of a client, until leave.
func (s *feeds) follow(client string) *feed {
	f := new(feed)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = make(map[string][]*feed)
	}
	s.of[client] = append(s.of[client], f)
	return f
}

// leave ends a feed.
func (s *feeds) leave(client string, f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.DeleteFunc(s.of[client], func(other *feed) bool { return other == f })
	if s.of[client] = left; len(left) == 0 {
		delete(s.of, client)
	}
}

// put tells that o is in the store, before the spool lets go of what o holds.
func (s *feeds) put(o PlanObject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.of[o.Client] {
		switch {
		case f.missed:
		case len(f.objects) == feedLength:
			*f = feed{missed: true}
		default:
			f.objects = append(f.objects, o)
		}
	}
}

// lose makes a feed one in which something is missing.
func (s *feeds) lose(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*f = feed{missed: true}
}

// take returns what is in a feed and empties it; false when something is
// missing.
func (s *feeds) take(f *feed) (objects []PlanObject, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	objects, whole = f.objects, !f.missed
	*f = feed{}
	return objects, whole
}
