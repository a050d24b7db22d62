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
	failed  bool // the measure ended early, with what was found in front of this
}

// empty reports whether nothing was found.
func (f finding) empty() bool { return len(f.values) == 0 }

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
	all := make([]float64, min(len(a), len(b)))
	for i := range all {
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
	if f.failed {
		return []string{f.name, "failed", "", "", ""}
	}
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
// last. It has a part for each size that was measured.
const historyHeading = "\n## A month of history\n"

// historyIntroduction is what all of its parts have in common.
const historyIntroduction = `
` + "`make bench-history`" + ` writes this part: ` + "`walback-generate`" + ` has SQLite work on a database and ships its commits, with times
spread over 30 days, by the code of the mount; then the store is served by an S3 server, and all requests are counted in
front of it. *Cold* is a mount made for the one question, with an empty cache. Instants are random. *Round trips* are
requests one after the other, with a delay added to each. A bound is for the worst.
`

// writeHistory puts the table into a document, instead of the one of the same size
// that is there.
func writeHistory(name string, about machine, h *history, found []finding) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, _, _ := bytes.Cut(text, []byte(historyHeading))
	var b bytes.Buffer
	b.Write(bytes.TrimRight(before, "\n"))
	b.WriteString("\n" + historyHeading + historyIntroduction)
	here := h.part(about, found)
	for _, part := range historyParts(text) {
		if title(part) == title(here) {
			part, here = here, ""
		}
		b.WriteString(part)
	}
	b.WriteString(here)
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// part is that of one size.
func (h *history) part(about machine, found []finding) string {
	var b bytes.Buffer
	m, n := h.made, h.made.Transactions-1
	fmt.Fprintf(&b, "%s%s, %s transactions\n\n", partHeading, inWords(m.Asked), thousands(n))
	fmt.Fprintf(&b, "The database has %s; a transaction writes %.1f pages. The history was shipped with `-interval %s`; making it took %s, at %s of\n"+
		"memory. %d instants were asked for a page and for a row, %d read whole, %d restored; the delay is %s.\n\n",
		mega(h.databaseSize()), float64(m.Changes)/float64(m.PageSize)/float64(max(n, 1)), m.Interval,
		time.Duration(m.Seconds*float64(time.Second)).Round(time.Second), mega(m.Memory), h.instants, h.scans, h.restores, h.delay)
	about.write(&b, fmt.Sprintf("%s, %s transactions", inWords(m.Asked), thousands(n)))
	b.WriteString("| measure | median | worst | bound | |\n|---|---|---|---|---|\n")
	for _, f := range found {
		b.WriteString("| " + strings.Join(f.cells(), " | ") + " |\n")
	}
	return b.String()
}

// partHeading begins the part of a size.
const partHeading = "\n### "

// title is the first line of a part.
func title(part string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(part, partHeading), "\n")
	return first
}

// historyParts returns the parts of a document about one size each.
func historyParts(text []byte) (parts []string) {
	_, all, _ := bytes.Cut(text, []byte(historyHeading))
	_, rest, ok := strings.Cut(string(all), partHeading)
	for ok {
		var part string
		part, rest, ok = strings.Cut(rest, partHeading)
		parts = append(parts, partHeading+strings.TrimRight(part, "\n")+"\n")
	}
	return parts
}

// inWords prints the size of a database as people say it.
func inWords(bytes int64) string {
	if bytes > 0 && bytes%(1<<30) == 0 {
		return fmt.Sprintf("%d GB", bytes>>30)
	}
	return fmt.Sprintf("%d MB", bytes>>20)
}

// thousands prints a number with its digits in groups.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
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
