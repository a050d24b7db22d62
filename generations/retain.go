package generations

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walback/walback/wal"
)

// Policy says which instants are kept when history is pruned: what any of its
// tiers keeps, and always the newest transaction. The zero Policy keeps nothing
// else; it is not parsed from any text.
type Policy []Tier

// Tier keeps, of each period that is not too old, the last transaction. Periods
// are those of the calendar in UTC, weeks beginning with Monday; those of a fixed
// length are counted from 1970-01-01T00:00:00Z.
type Tier struct {
	text   string
	period func(time.Time) int64 // number of the period that a time is in; nil: each commit is kept
	keep   wal.Time              // how long, in microseconds
}

// forever is longer ago than any commit can be.
const forever wal.Time = 1 << 62

const (
	tierForms = `"every commit 7d", "every 15m 2d", "hourly 30d", "daily 1y", weekly, monthly or yearly`
	keepForms = `12h, 7d, 2w, 1y (of 365 days) or forever`
)

// ParsePolicy parses tiers behind each other, with commas:
//
//	every commit 7d, every 15m 14d, hourly 30d, daily 1y, weekly 5y, monthly forever
func ParsePolicy(s string) (Policy, error) {
	if strings.TrimSpace(s) == "" {
		return nil, fmt.Errorf("retention %q: want what to keep for how long: %s", s, tierForms)
	}
	var p Policy
	for text := range strings.SplitSeq(s, ",") {
		t, err := parseTier(text)
		if err != nil {
			return nil, fmt.Errorf("retention %q: %q: %w", s, strings.TrimSpace(text), err)
		}
		p = append(p, t)
	}
	return p, nil
}

// String returns p as ParsePolicy takes it.
func (p Policy) String() string {
	texts := make([]string, len(p))
	for i, t := range p {
		texts[i] = t.text
	}
	return strings.Join(texts, ", ")
}

// String returns the tier as ParsePolicy takes it.
func (t Tier) String() string { return t.text }

func parseTier(s string) (Tier, error) {
	words := strings.Fields(s)
	n := len(words) - 1
	if n < 1 {
		return Tier{}, fmt.Errorf("want a period and how long to keep it: %s", tierForms)
	}
	t := Tier{text: strings.Join(words, " ")}
	var err error
	if t.keep, err = parseKeep(words[n]); err != nil {
		return Tier{}, err
	}
	t.period, err = parsePeriod(words[:n])
	return t, err
}

// parseKeep parses for how long a tier keeps.
func parseKeep(s string) (wal.Time, error) {
	if s == "forever" {
		return forever, nil
	}
	span := s
	if years, ok := strings.CutSuffix(s, "y"); ok {
		n, err := strconv.ParseUint(years, 10, 16)
		if err != nil || n > 100 {
			return 0, fmt.Errorf("for how long is %q: want %s", s, keepForms)
		}
		span = strconv.FormatUint(365*n, 10) + "d"
	}
	d, err := parseSpan(span)
	if err != nil || d == 0 {
		return 0, fmt.Errorf("for how long is %q: want %s", s, keepForms)
	}
	return wal.Time(d.Microseconds()), nil
}

var errPeriod = errors.New("no such period: want " + tierForms)

// parsePeriod returns what numbers the periods of a tier, nil for those of one
// commit each.
func parsePeriod(words []string) (func(time.Time) int64, error) {
	word, every := words[0], words[0] == "every"
	if every != (len(words) == 2) || len(words) > 2 {
		return nil, errPeriod
	}
	if every {
		if word = words[1]; word == "commit" {
			return nil, nil
		}
		d, err := parseSpan(word)
		if err != nil || d == 0 {
			return nil, fmt.Errorf(`%q is no time between two that are kept: want "every commit" or "every 15m"`, word)
		}
		return fixed(d), nil
	}
	switch word {
	case "hourly":
		return fixed(time.Hour), nil
	case "daily":
		return fixed(24 * time.Hour), nil
	case "weekly": // 1970-01-01 was a Thursday
		return func(t time.Time) int64 { return fixed(7 * 24 * time.Hour)(t.AddDate(0, 0, 3)) }, nil
	case "monthly":
		return func(t time.Time) int64 { return int64(t.Year())*12 + int64(t.Month()) }, nil
	case "yearly":
		return func(t time.Time) int64 { return int64(t.Year()) }, nil
	}
	return nil, errPeriod
}

// fixed numbers periods of one length.
func fixed(d time.Duration) func(time.Time) int64 {
	return func(t time.Time) int64 {
		us, length := t.UnixMicro(), d.Microseconds()
		n := us / length
		if us%length < 0 {
			n--
		}
		return n
	}
}

// Promises returns which of some transactions a policy keeps at the time now:
// for each, the index of the first tier that keeps it, or len(p) for the newest,
// or -1. times are those of all of them, ascending. It depends on nothing else, and
// as time goes by it keeps less and less of what there was.
func (p Policy) Promises(now wal.Time, times []wal.Time) []int {
	by := make([]int, len(times))
	for i := range by {
		by[i] = -1
	}
	if n := len(times); n > 0 {
		by[n-1] = len(p)
	}
	for tier, t := range slices.Backward(p) {
		next := int64(0)
		for i, at := range slices.Backward(times) {
			if at < now-t.keep {
				break
			}
			if t.period == nil {
				by[i] = tier
				continue
			}
			n := t.period(at.Std())
			if i == len(times)-1 || n != next {
				by[i] = tier
			}
			next = n
		}
	}
	return by
}
