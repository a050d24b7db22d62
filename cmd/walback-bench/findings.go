package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// finding is a line of the table about history: what was measured, as often as
// it was, beside what it may come to.
type finding struct {
	name   string
	values []float64
	print  func(float64) string
	// most is what the greatest value may be; 0 is no bound, unless bounded.
	most    float64
	bounded bool
}

// bounds of what may be asked for one thing; 0 is none.
type bounds struct {
	gets, trips int
	bytes       int64
}

// requestFindings are those of several times the same question.
func requestFindings(name string, all []requests, b bounds) []finding {
	return []finding{
		{name: name + ": GETs", print: number, most: float64(b.gets), values: each(all, func(r requests) float64 { return float64(r.gets) })},
		{name: name + ": LISTs", print: number, values: each(all, func(r requests) float64 { return float64(r.lists) })},
		{name: name + ": bytes", print: size, most: float64(b.bytes), values: each(all, func(r requests) float64 { return float64(r.bytes) })},
		{name: name + ": round trips", print: number, most: float64(b.trips), values: each(all, func(r requests) float64 { return float64(r.trips) })},
	}
}

// quotients returns a[i] ÷ b[i].
func quotients(a, b []float64) []float64 {
	all := make([]float64, len(a))
	for i := range a {
		all[i] = a[i] / b[i]
	}
	return all
}

func number(n float64) string { return fmt.Sprintf("%.0f", n) }

func size(bytes float64) string {
	if bytes < 1<<20 {
		return kilo(int64(bytes))
	}
	return mega(int64(bytes))
}

// cells are those of the line.
func (f finding) cells() []string {
	middle, worst := f.print(median(f.values)), f.print(slices.Max(f.values))
	if len(f.values) == 1 {
		worst = ""
	}
	bound, met := "", ""
	if f.bounded || f.most > 0 {
		bound, met = "≤ "+f.print(f.most), "met"
		if slices.Max(f.values) > f.most {
			met = "**not met**"
		}
	}
	return []string{f.name, middle, worst, bound, met}
}

// String is the line for a terminal.
func (f finding) String() string {
	c := f.cells()
	text := c[0] + "\n    " + c[1]
	if c[2] != "" {
		text += ", worst " + c[2]
	}
	if c[3] != "" {
		text += "; " + c[3] + ": " + strings.Trim(c[4], "*")
	}
	return text
}

// historyHeading begins the part of the document about history, which is its
// last.
const historyHeading = "\n## A month of history\n"

// writeHistory puts the table into a document, instead of the one that is there.
func writeHistory(name string, about machine, h *history, found []finding) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, _, _ := bytes.Cut(text, []byte(historyHeading))
	var b bytes.Buffer
	b.Write(bytes.TrimRight(before, "\n"))
	b.WriteString("\n" + historyHeading + "\n")
	fmt.Fprintf(&b, "`make bench-history` writes this part: `walback-generate` has SQLite work on a database of %s and ships its %d\n"+
		"commits, with times spread over 30 days, by the code of the mount with `-interval %s` (in %s); then the store is\n"+
		"served by an S3 server, and all requests are counted in front of it. *Cold* is a mount made for the one question,\n"+
		"with an empty cache. Instants are random: %d for single questions, %d to be read whole and %d to be restored.\n"+
		"*Round trips* are requests one after the other, with %s added to each. A bound is for the worst.\n\n",
		mega(h.databaseSize()), h.made.Transactions-1, h.made.Interval, time.Duration(h.made.Seconds*float64(time.Second)).Round(time.Second),
		h.instants, min(h.scans, h.instants), min(h.restores, h.instants), h.delay)
	about.write(&b, fmt.Sprintf("%s, %d transactions", mega(h.databaseSize()), h.made.Transactions-1))
	b.WriteString("| measure | median | worst | bound | |\n|---|---|---|---|---|\n")
	for _, f := range found {
		b.WriteString("| " + strings.Join(f.cells(), " | ") + " |\n")
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// historyIn returns the part of a document about history, nil when it has none, or
// is not there yet.
func historyIn(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	_, part, ok := bytes.Cut(text, []byte(historyHeading))
	if err != nil || !ok {
		return nil, err
	}
	return append([]byte(historyHeading), part...), nil
}
