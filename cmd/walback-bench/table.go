package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
)

// ratios returns the median of a[i] ÷ b[i], which were measured one after the
// other, and their spread.
func ratios(a, b []float64) string {
	all := make([]float64, 0, len(a))
	for i := range min(len(a), len(b)) {
		all = append(all, a[i]/b[i])
	}
	if len(all) == 0 {
		return "–"
	}
	middle := ratio(median(all))
	if len(all) == 1 {
		return middle
	}
	return fmt.Sprintf("%s (%s–%s)", middle, ratio(slices.Min(all)), ratio(slices.Max(all)))
}

// ratio prints with as many digits as say something.
func ratio(r float64) string {
	switch {
	case r < 0.1:
		return fmt.Sprintf("%.3f", r)
	case r < 10:
		return fmt.Sprintf("%.2f", r)
	}
	return fmt.Sprintf("%.0f", r)
}

// duration prints seconds.
func duration(s float64) string {
	switch {
	case s < 1e-3:
		return fmt.Sprintf("%.0f µs", s*1e6)
	case s < 0.1:
		return fmt.Sprintf("%.1f ms", s*1e3)
	case s < 10:
		return fmt.Sprintf("%.0f ms", s*1e3)
	}
	return fmt.Sprintf("%.0f s", s)
}

func perSecond(r float64) string {
	if r < 100 {
		return fmt.Sprintf("%.1f/s", r)
	}
	return fmt.Sprintf("%.0f/s", r)
}

func mega(bytes int64) string {
	if mb := float64(bytes) / (1 << 20); mb < 10 {
		return fmt.Sprintf("%.1f MB", mb)
	}
	return fmt.Sprintf("%d MB", bytes>>20)
}

func kilo(bytes int64) string { return fmt.Sprintf("%d KB", bytes>>10) }

// counts prints the median of counts and the largest.
func counts(all []float64) string {
	if len(all) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f (at most %.0f)", median(all), slices.Max(all))
}

// text is the row for a terminal.
func (r row) text(sides []side) string {
	var b strings.Builder
	b.WriteString(r.name + "\n")
	for _, s := range sides {
		if c := r.cells[s.name()]; c != "" {
			fmt.Fprintf(&b, "    %-11s %s\n", s.name(), c)
		}
	}
	if r.target != "" {
		fmt.Fprintf(&b, "    %-11s %s\n", "to reach", r.target)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// markdown is the row for a document.
func (r row) markdown(sides []side) string {
	cells := []string{r.name}
	for _, s := range sides {
		c := r.cells[s.name()]
		if c == "" {
			c = "–"
		}
		cells = append(cells, c)
	}
	return "| " + strings.Join(append(cells, r.target), " | ") + " |\n"
}

// notes are below the table.
const notes = `
- Where the kernel can, it reads and writes past the daemon: half of the commits cost what they cost in the plain
  directory, and what an application waits for is the checkpoints. docs/performance.md has what bounds each figure.
- With ` + "`synchronous=NORMAL`" + ` a commit has the time at which it was seen, which on a busy machine may be after the
  instant that is asked for here, between two commits.
- A database that is passed is asked for its size at each read as long as its log is empty.
- Litestream does the checkpoints itself, seldom, so the application is spared them: that can make it faster than
  on the plain directory, and is why its log grows.
- Litestream stores the pages that changed in about a second, walback each of the commits.
- What *the store alone* lacks after a crash was committed since the last segment was begun: 10 ms at first, then some
  1/200 of the time that the database has been busy, up to ` + "`-interval`" + `.
`

// writeReport writes docs/benchmarks.md.
func writeReport(name string, about machine, s scale, sides []side, rows []row) error {
	history, err := historyIn(name)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("# Benchmarks\n\n" +
		"`make bench` writes this file: it does the same work in turn on a plain directory, through a walback mount\n" +
		"and beside Litestream, in one run, each with its defaults and a store that is a local directory. The work is\n" +
		"done by SQLite in a process of its own. Where a cell is a number without a unit it is a ratio to the plain\n" +
		"directory: the median of the rounds, and their lowest and highest. *To reach* is what walback is to come to;\n" +
		"`go doc ./cmd/walback-bench` tells how to run a part of it.\n\n")
	about.write(&b, fmt.Sprintf("scale %s, %d rounds", s.name, s.rounds))
	header := row{name: "measure", target: "to reach", cells: map[string]string{}}
	for _, s := range sides {
		header.cells[s.name()] = s.name()
	}
	b.WriteString(header.markdown(sides))
	b.WriteString(strings.Repeat("|---", len(sides)+2) + "|\n")
	for _, r := range rows {
		b.WriteString(r.markdown(sides))
	}
	b.WriteString(notes)
	b.Write(history)
	return os.WriteFile(name, b.Bytes(), 0o644)
}
