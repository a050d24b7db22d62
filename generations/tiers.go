package generations

import (
	"slices"

	"github.com/walback/walback/wal"
)

// Segments are merged so that a view of the newest transaction needs few objects
// and a month needs few in all, without writing any byte often. What is not final
// is the tail of a generation: at most tailLength segments and the newest one.
// When there are more, the newest of the least rank (of those that came through
// the fewest merges, that is) become one of the next rank. When the tail is large
// enough, its oldest part becomes one final segment, which is never merged again:
// others may refer to what is in it. So the final segments of a generation adjoin,
// and of 10,000 segments of one transaction each, every byte is written 4.8 times more on
// average, by one more Put for every five.
//
// The newest segment of a generation is left alone, whoever merges: its name is
// what a writer finds when it asks whether somebody has gone on behind its back,
// and it may be one that its writer does not know it has put.
const (
	tailLength = 16
	// A merged segment is final when it has so many transactions or stored bytes.
	// The tail is merged when it has as many transactions, or twice the bytes, since
	// they become fewer by merging.
	finalTxns  = 10_000
	finalBytes = 32 << 20
	// mostInputs bounds how many segments are merged at a time.
	mostInputs = 64
)

// Final reports whether o is a segment that is large enough to be final, or was
// made by a pruning. It is final when all segments of its generation in front of it
// are.
func (o PlanObject) Final() bool {
	if o.Kind != SegmentObject {
		return false
	}
	return o.Pruning != 0 || o.Size >= finalBytes || o.Last != 0 && o.Last-o.First+1 >= finalTxns
}

// member is a segment in the store that may become part of a larger one.
type member struct {
	PlanObject
	last wal.TXID // its last transaction
	rank int      // how many merges it has come through
}

// tailOf returns the parts of a generation, of which all are given or those of a
// tail, that are not final.
func tailOf(parts []member) []member {
	n := 0
	for n < len(parts) && parts[n].Final() {
		n++
	}
	return parts[n:]
}

// setTail makes parts, which begin where the tail of g does, its tail, and notes
// which have become final. The caller holds the Writer's mu.
func (g *lineage) setTail(parts []member) {
	g.tail = tailOf(parts)
	g.maps.add(parts[:len(parts)-len(g.tail)], g.Snapshot)
}

// takeStock makes parts, which are all that g has in the store, what is known of
// it. The caller holds the Writer's mu.
func (g *lineage) takeStock(parts []member, left []leftover) {
	g.maps.final, g.maps.bytes = 0, 0
	g.setTail(parts)
	g.leftovers = left
}

// nextMerge returns which adjoining parts of a tail, ascending, are to become one
// now; none when it is short enough.
func nextMerge(tail []member) []member {
	if len(tail) == 0 {
		return nil
	}
	tail = tail[:len(tail)-1]
	if run := fullRun(tail, mostInputs); run != nil {
		return run
	}
	if len(tail) <= tailLength {
		return nil
	}
	for rank := 0; ; rank++ {
		n := len(tail)
		for n > 0 && tail[n-1].rank <= rank {
			n--
		}
		if run := tail[n:]; len(run) > 1 {
			return run[:min(len(run), mostInputs)]
		}
	}
}

// fullRun returns the first parts of tail that are enough for a final segment,
// nil when all are not. Where they are more than most, it is the first of them.
func fullRun(tail []member, most int) []member {
	bytes := int64(0)
	for i, p := range tail {
		bytes += p.Size
		if i > 0 && (bytes >= 2*finalBytes || p.last-tail[0].First+1 >= finalTxns) {
			return tail[:min(i+1, most)]
		}
	}
	return nil
}

// merged returns tail with one in place of the parts that it is made of. A part
// that came meanwhile stays.
func merged(tail []member, one member) []member {
	for _, p := range tail {
		if one.First <= p.First && p.last <= one.last {
			one.rank = max(one.rank, p.rank+1)
		}
	}
	tail = slices.DeleteFunc(slices.Clone(tail), func(p member) bool { return one.First <= p.First && p.last <= one.last })
	n, _ := slices.BinarySearchFunc(tail, one.First, func(p member, first wal.TXID) int {
		if p.First < first {
			return -1
		}
		return 1
	})
	return slices.Insert(tail, n, one)
}
