package generations

import (
	"math/rand/v2"
	"testing"

	"github.com/walback/walback/wal"
)

// grown is what merging has made of segments that came one after the other.
type grown struct {
	t      *testing.T
	finals []member
	tail   []member
	next   wal.TXID
	// What it cost.
	rewritten, came int64 // bytes
	merges          int
	longest         int // tail
}

// add adds a segment and merges what is due. By merging, bytes become fewer by
// the factor.
func (g *grown) add(txns, size int64, factor float64) {
	p := member{PlanObject: PlanObject{Object: Object{Kind: SegmentObject, First: g.next}, Size: size}, last: g.next + wal.TXID(txns) - 1}
	g.next += wal.TXID(txns)
	g.came += size
	g.replace(append(g.tail[:len(g.tail):len(g.tail)], p))
	for run := nextMerge(g.tail); run != nil; run = nextMerge(g.tail) {
		one := member{PlanObject: PlanObject{Object: run[0].Object}, last: run[len(run)-1].last}
		one.Last = one.last
		for i, p := range run {
			if p.Last == g.tail[len(g.tail)-1].last {
				g.t.Fatal("the newest segment is to be merged")
			}
			if i > 0 && p.First != run[i-1].last+1 {
				g.t.Fatalf("merges what does not adjoin: %v", run)
			}
			bytes := float64(p.Size)
			if p.rank == 0 {
				bytes *= factor
			}
			one.Size += int64(bytes)
		}
		g.merges++
		g.rewritten += one.Size
		g.replace(merged(g.tail, one))
	}
	g.longest = max(g.longest, len(g.tail))
}

func (g *grown) replace(all []member) {
	g.tail = tailOf(all)
	g.finals = append(g.finals, all[:len(all)-len(g.tail)]...)
	at := wal.TXID(1)
	for _, list := range [][]member{g.finals, g.tail} {
		for _, p := range list {
			if p.First != at {
				g.t.Fatalf("transaction %d is followed by a segment that begins with %d", at-1, p.First)
			}
			at = p.last + 1
		}
	}
	if at != g.next {
		g.t.Fatalf("the segments end with %d, want %d", at-1, g.next-1)
	}
}

// What merging promises, whatever sizes segments have: a short tail, few objects
// in all, and bytes that are not written often.
func TestTiers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for name, c := range map[string]struct {
		segments    int
		next        func() (txns, size int64)
		factor      float64
		mostWritten float64 // times that a byte is written again
		mostMerges  float64 // for each segment
		mostFinals  int
	}{
		"a month of single commits": {30_000, func() (int64, int64) { return 1, 5500 }, 1, 4.9, 0.21, 3},
		"they compress by merging":  {30_000, func() (int64, int64) { return 1, 5500 }, 0.4, 2, 0.21, 3},
		"batches":                   {20_000, func() (int64, int64) { return 1 + rng.Int64N(100), 1000 + rng.Int64N(200_000) }, 0.7, 3, 0.2, 120},
		"as fast as it goes":        {2000, func() (int64, int64) { return 5000, 10 << 20 }, 0.8, 1, 0.5, 1000},
		"large ones among small":    {5000, func() (int64, int64) { return 1, 5500 + (1<<rng.Int64N(27))/2 }, 0.9, 3, 0.3, 600},
		"huge ones are left alone":  {100, func() (int64, int64) { return 1, 1 << 30 }, 1, 0, 0, 100},
	} {
		t.Run(name, func(t *testing.T) {
			g := &grown{t: t, next: 1}
			for range c.segments {
				txns, size := c.next()
				g.add(txns, size, c.factor)
			}
			written, merges := float64(g.rewritten)/float64(g.came), float64(g.merges)/float64(c.segments)
			t.Logf("%d final and %d others of %d segments (at most %d others); every byte written %.2f times more, %.3f merges for a segment",
				len(g.finals), len(g.tail), c.segments, g.longest, written, merges)
			if g.longest > tailLength+1 || len(g.finals) > c.mostFinals || written > c.mostWritten || merges > c.mostMerges {
				t.Errorf("want at most %d others, %d final, %.2f times, %.3f merges", tailLength+1, c.mostFinals, c.mostWritten, c.mostMerges)
			}
		})
	}
}

// However far a backlog has grown, each merge is of a bounded number and brings it
// nearer to its end.
func TestBacklogIsMerged(t *testing.T) {
	g := &grown{t: t, next: 1}
	for range 12_000 {
		g.tail = append(g.tail, member{PlanObject: PlanObject{Object: Object{Kind: SegmentObject, First: g.next}, Size: 5500}, last: g.next})
		g.next++
	}
	for range 12_000 {
		run := nextMerge(g.tail)
		if run == nil {
			break
		}
		if len(run) < 2 || len(run) > mostInputs {
			t.Fatalf("merges %d segments at a time", len(run))
		}
		one := member{PlanObject: PlanObject{Object: run[0].Object, Size: int64(len(run)) * 5500}, last: run[len(run)-1].last}
		one.Last = one.last
		g.replace(merged(g.tail, one))
	}
	if len(g.tail) > tailLength+1 || len(g.finals) < 1 {
		t.Fatalf("%d final and %d others are left", len(g.finals), len(g.tail))
	}
}
