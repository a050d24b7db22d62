package generations

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/walback/walback/wal"
)

// Instant says which transaction of a client is meant: the newest, the last
// one at or before a time, or the one with an index; in one generation or in
// whichever is the newest that has it. The zero Instant is the newest. It is
// comparable.
type Instant struct {
	kind       instantKind
	time       wal.Time
	txid       wal.TXID
	generation ID // zero: any
	relative   bool
}

type instantKind byte

const (
	instantLatest instantKind = iota
	instantTime
	instantTXID
)

// Latest is the newest transaction.
func Latest() Instant { return Instant{} }

// AtTime is the last transaction at or before t.
func AtTime(t wal.Time) Instant { return Instant{kind: instantTime, time: t} }

// AtTXID is the transaction with index id.
func AtTXID(id wal.TXID) Instant { return Instant{kind: instantTXID, txid: id} }

// In returns i within generation g only.
func (i Instant) In(g ID) Instant {
	i.generation = g
	return i
}

// IsLatest reports whether i is the newest transaction, whenever that is asked.
func (i Instant) IsLatest() bool { return i.kind == instantLatest }

// Time returns the time that i names, and false when it names none.
func (i Instant) Time() (wal.Time, bool) { return i.time, i.kind == instantTime }

// Moving reports whether the same text means another transaction later: the
// newest, or a time relative to now.
func (i Instant) Moving() bool { return i.kind == instantLatest || i.relative }

// String returns i as ParseInstant takes it.
func (i Instant) String() string {
	switch i.kind {
	case instantTime:
		return i.time.String()
	case instantTXID:
		return "@" + i.txid.String()
	}
	return latestName
}

const (
	latestName = "latest"
	agoSuffix  = "-ago"

	timeForms = `2024-01-14T15:45:00.123456Z, 2024-01-14T15:45:00+01:00, 2024-01-14T15:45, 2024-01-14 (UTC) or 90m-ago (s, m, h, d, w)`
	allForms  = `latest, @1234, ` + timeForms
)

// ParseInstant parses what stands in a path of the history tree or behind a
// flag:
//
//	latest                         the newest transaction
//	2024-01-14T15:45:00.123456Z    RFC 3339 with at most six decimals, or with an offset
//	2024-01-14T15:45:00            the same in UTC, also without seconds or decimals
//	2024-01-14                     its midnight, UTC
//	90s-ago 90m-ago 2h-ago 3d-ago  before now; w is weeks
//	@1234                          the transaction with that index
func ParseInstant(s string, now wal.Time) (Instant, error) {
	if s == latestName {
		return Latest(), nil
	}
	if n, ok := strings.CutPrefix(s, "@"); ok {
		id, err := wal.ParseTXID(n)
		if err != nil || n[0] == '+' {
			return Instant{}, fmt.Errorf("instant %q: want @ and a number from 1 to %d", s, wal.MaxTXID)
		}
		return AtTXID(id), nil
	}
	t, relative, err := parseTime(s, now)
	if err != nil {
		return Instant{}, fmt.Errorf("instant %q: %s, want %s", s, err, allForms)
	}
	i := AtTime(t)
	i.relative = relative
	return i, nil
}

// ParseTime parses the forms of ParseInstant that are times.
func ParseTime(s string, now wal.Time) (wal.Time, error) {
	t, _, err := parseTime(s, now)
	if err != nil {
		return 0, fmt.Errorf("time %q: %s, want %s", s, err, timeForms)
	}
	return t, nil
}

// timePattern takes a time apart into date, minute, second, decimals and zone.
// time.Parse alone takes more than we want (decimals behind a comma, any number
// of them).
var timePattern = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?$`)

// parseTime returns the time, and whether it was relative to now. Its errors
// are the reason only.
func parseTime(s string, now wal.Time) (t wal.Time, relative bool, err error) {
	if span, ok := strings.CutSuffix(s, agoSuffix); ok {
		d, err := parseSpan(span)
		return now - wal.Time(d.Microseconds()), true, err
	}
	m := timePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, false, fmt.Errorf("not a time")
	}
	date, minute, second, decimals, zone := m[1], m[2], m[3], m[4], m[5]
	if len(decimals) > 6 {
		return 0, false, fmt.Errorf("finer than a microsecond")
	}
	if minute == "" {
		minute = "00:00"
	}
	if second == "" {
		second = "00"
	}
	if decimals == "" {
		decimals = "0"
	}
	if zone == "" {
		zone = "Z"
	}
	p, err := time.Parse(time.RFC3339Nano, date+"T"+minute+":"+second+"."+decimals+zone)
	if err != nil {
		return 0, false, fmt.Errorf("no such date or time of day")
	}
	return wal.TimeOf(p), false, nil
}

// maxSpan keeps a relative time within what a time.Duration can hold.
const maxSpan = 100 * 366 * 24 * time.Hour

// parseSpan parses a whole number and one unit.
func parseSpan(s string) (time.Duration, error) {
	if len(s) < 2 || s[0] < '0' || s[0] > '9' {
		return 0, fmt.Errorf("not a number and a unit before %s", agoSuffix)
	}
	var unit time.Duration
	switch s[len(s)-1] {
	case 's':
		unit = time.Second
	case 'm':
		unit = time.Minute
	case 'h':
		unit = time.Hour
	case 'd':
		unit = 24 * time.Hour
	case 'w':
		unit = 7 * 24 * time.Hour
	default:
		return 0, fmt.Errorf("unknown unit before %s", agoSuffix)
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("not a number and a unit before %s", agoSuffix)
	}
	if n > uint64(maxSpan/unit) {
		return 0, fmt.Errorf("more than a hundred years ago")
	}
	return time.Duration(n) * unit, nil
}
