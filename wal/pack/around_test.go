package pack

import "testing"

// TestAround: what is fetched with a block are those of its own run that lie
// beside it.
func TestAround(t *testing.T) {
	type place struct {
		off    int64
		stored int
	}
	blocks := []place{{100, 50}, {150, 50}, {200, 50}, {250, 50}, {1 << 20, 50}, {1<<20 + 60, 50}, {90, 5}}
	for n, want := range [][2]int64{
		{100, 200}, {100, 200}, {200, 300}, {200, 300}, {1 << 20, 1<<20 + 110}, {1 << 20, 1<<20 + 110}, {90, 95},
	} {
		begin, end := around(n, len(blocks), 2, func(i int) (int64, int, bool) { return blocks[i].off, blocks[i].stored, true })
		if begin != want[0] || end != want[1] {
			t.Errorf("around block %d: %d to %d, want %v", n, begin, end, want)
		}
	}
	elsewhere := func(i int) (int64, int, bool) { return blocks[i].off, blocks[i].stored, i != 1 }
	if begin, end := around(2, len(blocks), 7, elsewhere); begin != 200 || end != 300 {
		t.Errorf("beside one that lies elsewhere, and in front of a gap: %d to %d", begin, end)
	}
}
