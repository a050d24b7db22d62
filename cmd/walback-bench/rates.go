package main

import (
	"fmt"
	"math"
	"slices"
)

// The measures of how much slower the application becomes.

// rates has every side do j, and returns the rates by side, in the order of the
// rounds.
func (b *bench) rates(rounds int, prepare, j job) (map[string][]float64, error) {
	got := map[string][]float64{}
	err := b.inTurn(rounds, b.sides(), func(s side, at place) error {
		r, err := b.lookedAfter(s, at, prepare, j)
		got[s.name()] = append(got[s.name()], r.rate())
		return err
	})
	return got, err
}

// rateRow is rates as a row: how often a second on the plain side, and how much
// of that the others reach.
func (b *bench) rateRow(name, target string, prepare, j job) (row, error) {
	got, err := b.rates(b.scale.rounds, prepare, j)
	if err != nil {
		return row{}, fmt.Errorf("%s: %w", name, err)
	}
	r := row{name: name, target: target, cells: map[string]string{}}
	for side, rates := range got {
		if side == sidePlain {
			r.cells[side] = perSecond(median(rates))
			continue
		}
		r.cells[side] = ratios(rates, got[sidePlain])
	}
	return r, nil
}

func (b *bench) smallCommits() ([]row, error) {
	var rows []row
	for _, m := range []struct {
		name, target, synchronous string
		per                       int
	}{
		{"commits of 1 row, `synchronous=NORMAL`", "≥ 0.85", "NORMAL", 1},
		{"commits of 1 row, `synchronous=FULL`", "≥ 0.75", "FULL", 1},
		{"commits of 100 rows, `NORMAL`", "≥ 0.82", "NORMAL", 100},
	} {
		r, err := b.rateRow(m.name, m.target, job{Do: "create", Count: 1},
			job{Do: "commits", Synchronous: m.synchronous, Rows: m.per, For: b.scale.spell})
		if err != nil {
			return rows, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func (b *bench) bulkLoad() ([]row, error) {
	r, err := b.rateRow(fmt.Sprintf("bulk load of %s in transactions of 1000 rows", mega(b.scale.load)), "≥ 0.85",
		job{Do: "create", Count: 1}, job{Do: "load", Synchronous: "NORMAL", Bytes: b.scale.load})
	return []row{r}, err
}

// readRows is how many rows there are to read: some 10 MB.
const readRows = 100_000

func (b *bench) pointReads() ([]row, error) {
	var rows []row
	for _, m := range []struct {
		name, target string
		job          job
	}{
		{"warm point reads", "≥ 0.95", job{}},
		{"the same, log empty, opened read-only", "≥ 0.9", job{EmptyLog: true, ReadOnly: true}},
		{"the same, log empty, opened read-write", "≥ 0.2", job{EmptyLog: true}},
	} {
		j := m.job
		j.Do, j.For = "reads", b.scale.spell/2
		r, err := b.rateRow(m.name, m.target, job{Do: "create", Count: readRows}, j)
		if err != nil {
			return rows, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// burst is what one side came to in a burst of commits.
type burst struct {
	result
	daemon float64 // seconds of CPU of whoever looks after the database
}

// fullSpeed is a burst of small commits, and what it costs besides time: the
// worst of them, the log that is left, and the CPU of the daemon.
func (b *bench) fullSpeed() ([]row, error) {
	got := map[string][]burst{}
	j := job{Do: "commits", Synchronous: "NORMAL", Rows: 1, For: b.scale.burst}
	err := b.inTurn(min(b.scale.rounds, 3), b.sides(), func(s side, at place) error {
		one, err := b.burst(s, at, j)
		got[s.name()] = append(got[s.name()], one)
		return err
	})
	if err != nil {
		return nil, err
	}
	left := row{name: "log left by them", target: "as plain", cells: map[string]string{}}
	cpu := row{name: "CPU of application + daemon for 10,000 of them", target: "", cells: map[string]string{}}
	for side, bursts := range got {
		left.cells[side] = mega(int64(median(each(bursts, func(x burst) float64 { return float64(x.Log) }))))
		per := func(x burst, seconds float64) float64 { return seconds / float64(x.Count) * 10_000 }
		own := median(each(bursts, func(x burst) float64 { return per(x, x.CPU) }))
		cpu.cells[side] = fmt.Sprintf("%.2f s", own)
		if side != sidePlain {
			cpu.cells[side] += fmt.Sprintf(" + %.2f s", median(each(bursts, func(x burst) float64 { return per(x, x.daemon) })))
		}
	}
	return []row{
		worstRow(fmt.Sprintf("%s of commits at full speed: half are faster than, ÷ plain", b.scale.burst), "", got, 0.5),
		worstRow("99.9 % of them are faster than, ÷ plain", "", got, 0.999),
		worstRow("the worst of them, ÷ plain", "≤ 1.5×", got, 1),
		left, cpu,
	}, nil
}

func (b *bench) burst(s side, at place, j job) (one burst, err error) {
	j.DB = at.db()
	if _, err := b.do(job{Do: "create", DB: at.db(), Count: 1}); err != nil {
		return one, err
	}
	d, err := s.start(b.ctx, at)
	if err != nil {
		return one, err
	}
	defer func() {
		if e := d.stop(); err == nil {
			err = e
		}
	}()
	if d == nil {
		one.result, err = b.do(j)
		return one, err
	}
	before, err := d.usage()
	if err != nil {
		return one, err
	}
	if one.result, err = b.do(j); err != nil {
		return one, err
	}
	after, err := d.usage()
	one.daemon = (after.cpu - before.cpu).Seconds()
	return one, err
}

// worstRow compares how long the commits took that all but a share were faster
// than.
func worstRow(name, target string, got map[string][]burst, share float64) row {
	r := row{name: name, target: target, cells: map[string]string{}}
	times := map[string][]float64{}
	for side, bursts := range got {
		times[side] = each(bursts, func(x burst) float64 { return quantile(x.Times, share) })
	}
	for side, t := range times {
		if side == sidePlain {
			r.cells[side] = duration(median(t))
			continue
		}
		r.cells[side] = ratios(t, times[sidePlain]) + ": " + duration(median(t))
	}
	return r
}

// each returns f of every element.
func each[T any](all []T, f func(T) float64) []float64 {
	made := make([]float64, len(all))
	for i, x := range all {
		made[i] = f(x)
	}
	return made
}

// median returns the middle value.
func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return quantile(sorted, 0.5)
}

// quantile returns the lowest value that a share of sorted is not above: for 1
// that is the largest.
func quantile(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(share * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}
