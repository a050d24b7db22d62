package generations

import (
	"math"
	"time"
)

// Bounds of how fast the segments of a database follow each other.
const (
	// leastGap is between the beginnings of two segments after a rest.
	leastGap = 10 * time.Millisecond
	// gapGrowth is how much longer each segment makes the gap to the next one, and
	// each interval that passes makes it shorter.
	gapGrowth = 1.005
	// workShare is how many times as long as making and putting a segment took it is
	// at least until the next one: under load the processors and the disk are the
	// application's.
	workShare = 6
)

// Pace spreads the segments of one database. What a segment costs is a request
// to the store; what it saves, should the machine be lost, is the commits that
// would have waited for it. So the gap is short at first and grows with every
// segment, until it is the interval; there it stays, since as much of it goes by
// in an interval as a segment adds. After t seconds of work it is some t/200. It is
// longer, up to the interval, as long as segments take long to make and to put.
//
// In the long run there is one segment per interval at most, and in any time at
// most n besides, where gapGrowth to the nth is interval/leastGap: 924 for a
// second.
type Pace struct {
	began time.Time // when the last segment was begun
	spent float64   // segments that no interval has made up for yet, as of began
	took  time.Duration
}

// Begin notes that a segment is begun.
func (p *Pace) Begin(now time.Time, interval time.Duration) {
	if !p.began.IsZero() {
		p.spent -= now.Sub(p.began).Seconds() / interval.Seconds()
	}
	p.began, p.spent = now, max(p.spent, 0)+1
}

// maxPutWork is how much of the time of a put counts as work at most: the rest is
// waiting for the network, which takes nothing from anybody.
const maxPutWork = 20 * time.Millisecond

// End notes how long it took to make the segment that was begun last, and to put
// it.
func (p *Pace) End(making, putting time.Duration) { p.took = making + min(putting, maxPutWork) }

// Next returns when the next segment may begin.
func (p *Pace) Next(interval time.Duration) time.Time {
	gap := max(float64(leastGap)*math.Pow(gapGrowth, p.spent), workShare*float64(p.took))
	return p.began.Add(time.Duration(min(gap, float64(interval))))
}
