package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"
)

// bench is one run.
type bench struct {
	ctx   context.Context
	scale scale
	dir   string // everything happens below it
	count int    // places made so far

	walback    string // programs
	litestream string // "" is none
	versitygw  string // "" is none
}

// scale is how much is done of everything.
type scale struct {
	name      string
	rounds    int           // of each side, in turn
	spell     time.Duration // how long a rate is measured
	burst     time.Duration // of commits at full speed, where what they leave behind counts
	load      int64         // bytes of rows
	isolated  int           // commits on their own
	crashes   int
	pairs     int // of commits 5 ms apart
	small     int // commits whose stored size is measured
	databases int // idle ones
	many      int // that are mounted again when none has changed
	idle      time.Duration
	past      int64 // bytes of the database whose past is restored and looked at
	behind    int   // commits after its image
}

func scaleOf(quick, full bool) scale {
	s := scale{
		name: "default", rounds: 5, spell: 1500 * time.Millisecond, burst: 5 * time.Second,
		load: 100 << 20, isolated: 16, crashes: 5, pairs: 6, small: 10_000,
		databases: 1000, many: 1000, idle: 10 * time.Second, past: 222 << 20, behind: 2000,
	}
	switch {
	case quick:
		s = scale{
			name: "-quick", rounds: 1, spell: 400 * time.Millisecond, burst: time.Second,
			load: 8 << 20, isolated: 2, crashes: 1, pairs: 2, small: 1000,
			databases: 100, many: 100, idle: 2 * time.Second, past: 32 << 20, behind: 200,
		}
	case full:
		s.name, s.load, s.past, s.many = "-full", 300<<20, 1<<30, 10_000
	}
	return s
}

// row is a line of the table: what each side came to, and what is to be reached.
type row struct {
	name   string
	cells  map[string]string // by side
	target string
}

// measure makes rows.
type measure struct {
	name string
	run  func(*bench) ([]row, error)
}

// measures in the order of the table.
var measures = []measure{
	{"small commits", (*bench).smallCommits},
	{"bulk load", (*bench).bulkLoad},
	{"point reads", (*bench).pointReads},
	{"full speed", (*bench).fullSpeed},
	{"isolated commits", (*bench).isolatedCommits},
	{"kill -9", (*bench).killed},
	{"5 ms apart", (*bench).apart},
	{"idle", (*bench).idle},
	{"mounted again", (*bench).mountedAgain},
	{"stored bytes", (*bench).storedBytes},
	{"restore", (*bench).restore},
	{"first row", (*bench).firstRow},
}

// all takes the measures that match and prints each row as it is there. What
// fails is a row that says so, and part of the error.
func (b *bench) all(pattern *regexp.Regexp) (rows []row, failed error) {
	for _, m := range measures {
		if !pattern.MatchString(m.name) || b.ctx.Err() != nil {
			continue
		}
		began := time.Now()
		made, err := m.run(b)
		if err != nil {
			err = fmt.Errorf("%s: %w", m.name, err)
			failed = errors.Join(failed, err)
			made = append(made, row{name: m.name, cells: map[string]string{sideWalback: "failed"}})
			fmt.Fprintln(os.Stderr, "walback-bench:", err)
		}
		for _, r := range made {
			fmt.Println(r.text(b.sides()))
		}
		fmt.Printf("    (%s took %s)\n", m.name, time.Since(began).Round(100*time.Millisecond))
		rows = append(rows, made...)
	}
	return rows, failed
}

// The sides, which are columns of the table.
const (
	sidePlain      = "plain"
	sideWalback    = "walback"
	sideLitestream = "Litestream"
)

// sides returns who is measured.
func (b *bench) sides() []side {
	all := []side{plain{}, walback{program: b.walback}}
	if b.litestream != "" {
		all = append(all, litestream{program: b.litestream})
	}
	return all
}

// shippers returns the sides that ship.
func (b *bench) shippers() []side { return b.sides()[1:] }

// inTurn calls do for every side, rounds times, in another order each round, so
// that nobody is always first after an idle disk.
func (b *bench) inTurn(rounds int, sides []side, do func(s side, at place) error) error {
	for round := range rounds {
		for i := range sides {
			s := sides[(i+round)%len(sides)]
			if err := b.ctx.Err(); err != nil {
				return err
			}
			at, err := b.newPlace()
			if err != nil {
				return err
			}
			if err := do(s, at); err != nil {
				return fmt.Errorf("%s: %w", s.name(), err)
			}
			if err := at.remove(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) newPlace() (place, error) {
	b.count++
	return makePlace(b.dir + "/" + strconv.Itoa(b.count))
}
