package live

import (
	"testing"

	"github.com/walback/walback/wal"
)

// A log continues what a mark has if the mark is in it, or at the end of the
// epoch before. Any other may be of another database that came to the path.
func TestLogContinuesMark(t *testing.T) {
	at := func(salt, frames uint32) wal.Position {
		return wal.Position{Salt1: salt, Frames: frames, PageSize: 4096}
	}
	log := []point{{}, {end: at(7, 2)}, {end: at(7, 5)}}
	for _, c := range []struct {
		name       string
		mark, from wal.Position
		ok         bool
	}{
		{"in the log", at(7, 2), at(7, 2), true},
		{"at its end", at(7, 5), at(7, 5), true},
		{"in the epoch before", at(6, 90), wal.Position{}, true},
		{"within a commit", at(7, 3), wal.Position{}, false},
		{"two epochs before", at(5, 1), wal.Position{}, false},
		{"without a log", wal.Position{}, wal.Position{}, false},
	} {
		from, ok := continues(log, c.mark)
		if ok != c.ok || ok && from != c.from {
			t.Errorf("a mark %s: %+v, %v", c.name, from, ok)
		}
	}
	if _, ok := continues(log[:1], at(7, 2)); ok {
		t.Error("there is no log that could continue anything")
	}
}
