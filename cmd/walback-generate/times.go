package main

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/walback/walback/wal"
)

// spread returns n times, ascending, behind from and up to until: sessions of a
// few commits a second or so apart, more of them by day than by night and at the
// weekend, and now and then a job that commits hundreds of times in a second or
// two.
func spread(r *rand.Rand, n int, from, until wal.Time) []wal.Time {
	times := make([]wal.Time, 0, n)
	for len(times) < n {
		at := from + 1 + wal.Time(r.Int64N(int64(until-from)))
		if r.Float64() >= activity(at.Std()) {
			continue
		}
		commits, apart := 1+int(r.ExpFloat64()*4), 700*time.Millisecond
		if r.IntN(200) == 0 {
			commits, apart = 100+r.IntN(500), 4*time.Millisecond
		}
		for ; commits > 0 && len(times) < n && at <= until; commits-- {
			times = append(times, at)
			at += 1 + wal.Time(r.ExpFloat64()*float64(apart.Microseconds()))
		}
	}
	slices.Sort(times)
	// No two at the same time: the one behind makes way, or the one in front of
	// it where there is no time left.
	for i := 1; i < n; i++ {
		times[i] = max(times[i], times[i-1]+1)
	}
	for i := n - 1; i >= 0 && times[i] > until-wal.Time(n-1-i); i-- {
		times[i] = until - wal.Time(n-1-i)
	}
	return times
}

// activity is how busy people are at an instant, from 0 to 1.
func activity(at time.Time) float64 {
	a := 1.0
	switch hour := at.Hour(); {
	case hour < 6:
		a = 0.02
	case hour < 8 || hour >= 20:
		a = 0.2
	case hour == 12:
		a = 0.6
	}
	if day := at.Weekday(); day == time.Saturday || day == time.Sunday {
		a *= 0.25
	}
	return a
}
