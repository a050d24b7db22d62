package snapshot

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/walback/walback/wal"
)

// interior makes an interior page of a table with those children.
func interior(children ...wal.Pgno) []byte {
	b := make([]byte, 512)
	n := len(children) - 1
	b[0] = interiorTable
	binary.BigEndian.PutUint16(b[3:], uint16(n))
	binary.BigEndian.PutUint32(b[8:], uint32(children[n]))
	for i, child := range children[:n] {
		at := len(b) - 5*(i+1)
		binary.BigEndian.PutUint16(b[12+2*i:], uint16(at))
		binary.BigEndian.PutUint32(b[at:], uint32(child))
	}
	return b
}

// Who goes through a table has what comes fetched; who looks for rows does not.
func TestChildrenAreForeseen(t *testing.T) {
	children := []wal.Pgno{90, 12, 55, 13, 70, 14}
	leaf := make([]byte, 512)
	for what, c := range map[string]struct {
		read []wal.Pgno
		due  bool
	}{
		"a scan":           {[]wal.Pgno{12, 55, 13}, true},
		"one backwards":    {[]wal.Pgno{14, 70, 13}, true},
		"a row":            {[]wal.Pgno{55}, false},
		"rows":             {[]wal.Pgno{90, 55, 70, 12, 13, 90}, false},
		"one row of a few": {[]wal.Pgno{55, 55, 55, 55}, false},
	} {
		var r readahead
		if due, _ := r.noteChildren(interior(children...), 5, 100, 512); len(due) > 0 {
			t.Errorf("%s: %v are fetched before any is read", what, due)
		}
		var due []wal.Pgno
		for _, p := range c.read {
			some, _ := r.noteChildren(leaf, p, 100, 512)
			due = append(due, some...)
		}
		slices.Sort(due)
		if want := slices.Sorted(slices.Values(children)); c.due && !slices.Equal(due, want) || !c.due && len(due) > 0 {
			t.Errorf("%s: fetched are %v", what, due)
		}
	}
}

// Of an interior page that follows another, and of those behind it, the children are
// fetched at once.
func TestParentsAreForeseen(t *testing.T) {
	var r readahead
	r.noteChildren(interior(20, 30, 40, 50), 2, 100, 512)
	if due, _ := r.noteChildren(interior(21, 22, 23), 20, 100, 512); len(due) > 0 {
		t.Errorf("of the first, %v are fetched", due)
	}
	due, next := r.noteChildren(interior(31, 32, 33), 30, 100, 512)
	slices.Sort(due)
	if !slices.Equal(due, []wal.Pgno{31, 32, 33}) || !slices.Equal(next, []wal.Pgno{40, 50}) {
		t.Errorf("of the second, %v are fetched, and those of %v", due, next)
	}
}

// What is no interior page tells of no children.
func FuzzChildren(f *testing.F) {
	f.Add(interior(2, 3, 4), uint32(10))
	f.Add([]byte{interiorIndex, 0, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0}, uint32(10))
	f.Fuzz(func(t *testing.T, page []byte, size uint32) {
		for p := range childrenOf(page, wal.Pgno(size)) {
			if p < 2 || p > wal.Pgno(size) {
				t.Errorf("page %d of a database of %d", p, size)
			}
		}
	})
}
