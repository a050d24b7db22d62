package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v3"

	"github.com/walback/walback/wal"
)

// jsonFlag is what every listing has.
func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON, one object a line"}
}

// column is one column of a listing of T.
type column[T any] struct {
	name string // upper case, the heading
	cell func(T) string
}

// listing prints rows as they come: aligned text with a heading, or JSON, one
// object a line, with the field names of T.
type listing[T any] struct {
	columns []column[T]
	text    *tabwriter.Writer
	json    *json.Encoder
	out     *bufio.Writer
	rows    int
}

// flushRows is how many rows a text listing gathers before it aligns and prints
// them, so that one with a million rows begins at once and stays small.
const flushRows = 256

// newListing begins a listing on w.
func newListing[T any](w io.Writer, asJSON bool, columns ...column[T]) *listing[T] {
	l := &listing[T]{columns: columns, out: bufio.NewWriter(w)}
	if asJSON {
		l.json = json.NewEncoder(l.out)
		l.json.SetEscapeHTML(false)
		return l
	}
	l.text = tabwriter.NewWriter(l.out, 0, 8, 2, ' ', 0)
	return l
}

// add prints one row.
func (l *listing[T]) add(row T) error {
	if l.json != nil {
		return l.json.Encode(row)
	}
	cells := make([]string, len(l.columns))
	if l.rows == 0 {
		for i, c := range l.columns {
			cells[i] = c.name
		}
		fmt.Fprintln(l.text, strings.Join(cells, "\t"))
	}
	for i, c := range l.columns {
		cells[i] = c.cell(row)
	}
	l.rows++
	if _, err := fmt.Fprintln(l.text, strings.Join(cells, "\t")); err != nil {
		return err
	}
	if l.rows%flushRows == 0 {
		return l.flush()
	}
	return nil
}

// end prints what is still held back. A text listing without rows prints
// nothing at all.
func (l *listing[T]) end() error { return l.flush() }

// flush prints what has been added.
func (l *listing[T]) flush() error {
	if l.text != nil {
		if err := l.text.Flush(); err != nil {
			return err
		}
	}
	return l.out.Flush()
}

// jsonTime is a wal.Time that prints as text in JSON, and as null when zero.
type jsonTime wal.Time

func (t jsonTime) MarshalJSON() ([]byte, error) {
	if t == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(wal.Time(t).String())
}

func (t *jsonTime) UnmarshalJSON(b []byte) error {
	var text *time.Time
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*t = 0
	if text != nil {
		*t = jsonTime(wal.TimeOf(*text))
	}
	return nil
}

func (t jsonTime) String() string {
	if t == 0 {
		return "-"
	}
	return wal.Time(t).String()
}

// bytesText returns n bytes as a person reads them, in powers of 1024.
func bytesText(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// ageText returns a duration as a person reads it, in whole seconds or days where that is exact enough.
func ageText(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	case d < 48*time.Hour:
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
