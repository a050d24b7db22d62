package generations_test

import (
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

func TestParsePolicy(t *testing.T) {
	for text, want := range map[string]string{
		"every commit 7d, hourly 30d, daily 1y":     "every commit 7d, hourly 30d, daily 1y",
		"  every  15m 2w,weekly 5y,monthly forever": "every 15m 2w, weekly 5y, monthly forever",
		"yearly forever": "yearly forever",
		"every commit 90s, every commit 12h, daily 1d": "every commit 90s, every commit 12h, daily 1d",
	} {
		p, err := generations.ParsePolicy(text)
		if err != nil || p.String() != want {
			t.Errorf("%q is %q, %v", text, p, err)
		}
		again, err := generations.ParsePolicy(p.String())
		if err != nil || again.String() != want {
			t.Errorf("%q is %q when it is parsed again, %v", text, again, err)
		}
	}
	for text, want := range map[string]string{
		"":                        "want what to keep for how long",
		" , daily 1y":             `"": want a period and how long`,
		"daily":                   `"daily": want a period and how long`,
		"daily 1":                 `for how long is "1": want 12h, 7d`,
		"daily 0d":                `for how long is "0d"`,
		"daily -1d":               `for how long is "-1d"`,
		"daily 1000y":             `for how long is "1000y"`,
		"daily 1y,":               `"": want a period`,
		"every 7d":                `"every 7d": no such period`,
		"every day 7d":            `"day" is no time between two`,
		"every 0m 7d":             `"0m" is no time between two`,
		"commit 7d":               `"commit 7d": no such period: want "every commit 7d"`,
		"hourly for 7d":           "no such period",
		"every commit 7d; hourly": `for how long is "hourly"`,
	} {
		if p, err := generations.ParsePolicy(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is %q, %v", text, p, err)
		}
	}
}

// The last one of each period is kept, by the calendar in UTC, as long as it is not
// too old, and the newest always.
func TestPromises(t *testing.T) {
	at := func(s string) wal.Time {
		p, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return wal.TimeOf(p)
	}
	commits := []string{ // 2024-03-31 was a Sunday
		"2021-12-31T23:59:59Z",
		"2023-03-01T00:00:00Z",
		"2024-02-29T12:00:00Z",
		"2024-03-25T00:00:00Z",
		"2024-03-31T23:59:58Z",
		"2024-04-01T00:00:00Z",
		"2024-04-01T00:14:59Z",
		"2024-04-01T00:15:00Z",
		"2024-04-01T00:59:59Z",
		"2024-04-01T01:00:00Z",
		"2024-04-01T01:10:00Z",
	}
	var times []wal.Time
	for _, c := range commits {
		times = append(times, at(c))
	}
	for policy, want := range map[string]string{ // a digit for each: the tier
		"every commit 1h":                 ".......0000", // an hour is included
		"every commit 1h, hourly 90m":     "....1..0000",
		"every commit 1m, hourly 2d":      "....1...1.1",
		"hourly 2d":                       "....0...0.0",
		"every 15m 2d":                    "....0.000.0",
		"daily 30d":                       "...00.....0",
		"weekly forever":                  "000.0.....0",
		"monthly 1y":                      "..0.0.....0",
		"yearly forever":                  "00........0",
		"yearly 1y, daily 1w":             "....1.....0",
		"every commit 1s":                 "..........1",
		"every commit forever, hourly 1s": "00000000000",
	} {
		p, err := generations.ParsePolicy(policy)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, tier := range p.Promises(at("2024-04-01T01:15:00Z"), times) {
			got.WriteByte(".0123"[tier+1])
		}
		if got.String() != want {
			t.Errorf("%q keeps %s, want %s", policy, &got, want)
		}
	}
	if got := (generations.Policy{}).Promises(0, nil); len(got) != 0 {
		t.Errorf("of nothing is kept %v", got)
	}
}
