package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// The measures of what is in the store, and when.

// isolatedCommits measures how long a commit on its own takes into the store.
func (b *bench) isolatedCommits() ([]row, error) {
	r := row{name: "isolated commit → in the store, p50 / p99", target: "≤ 10 / 50 ms", cells: map[string]string{}}
	err := b.inTurn(1, b.shippers(), func(s side, at place) error {
		got, err := b.lookedAfter(s, at, job{Do: "create", Count: 1},
			job{Do: "isolated", Synchronous: "NORMAL", Count: b.scale.isolated, Store: at.store(), Side: s.name()})
		r.cells[s.name()] = duration(quantile(got.Times, 0.5)) + " / " + duration(quantile(got.Times, 0.99))
		return err
	})
	return []row{r}, err
}

// storedBytes measures what a small commit takes in the store.
func (b *bench) storedBytes() ([]row, error) {
	r := row{name: fmt.Sprintf("bytes stored per small commit (%d of them)", b.scale.small), target: "≤ 150", cells: map[string]string{}}
	err := b.inTurn(1, b.shippers(), func(s side, at place) error {
		_, err := b.lookedAfter(s, at, job{Do: "create", Count: 1},
			job{Do: "commits", Synchronous: "NORMAL", Rows: 1, Count: b.scale.small})
		if err != nil {
			return err
		}
		n, bytes, err := objects(at.store(), s.shipped)
		r.cells[s.name()] = fmt.Sprintf("%.0f in %d objects", float64(bytes)/float64(b.scale.small), n)
		return err
	})
	return []row{r}, err
}

// apart counts how many of two commits 5 ms apart can be told apart.
func (b *bench) apart() ([]row, error) {
	r := row{name: "two commits 5 ms apart told apart by `-timestamp`", target: "always", cells: map[string]string{}}
	err := b.inTurn(1, b.shippers(), func(s side, at place) error {
		got, err := b.lookedAfter(s, at, job{Do: "create"},
			job{Do: "pairs", Synchronous: "NORMAL", Count: b.scale.pairs})
		if err != nil {
			return err
		}
		told := 0
		for i, p := range got.Pairs {
			newest, err := b.newestAt(s, at, at.file("pair"+strconv.Itoa(i)), p.Between.UTC().Format("2006-01-02T15:04:05.000000Z"))
			if err != nil {
				return err
			}
			if newest == p.First {
				told++
			}
		}
		r.cells[s.name()] = fmt.Sprintf("%d of %d", told, len(got.Pairs))
		return nil
	})
	return []row{r}, err
}

// newestAt restores an instant and returns the newest row.
func (b *bench) newestAt(s side, at place, out, instant string) (int, error) {
	if err := s.restore(b.ctx, at, out, instant); err != nil {
		return 0, err
	}
	got, err := b.do(job{Do: "newest", DB: out})
	return got.Newest, err
}

// killed measures how many commits that an application saw succeed are gone
// after everything was killed: from the store alone, and after a restart.
func (b *bench) killed() ([]row, error) {
	alone, restarted := map[string][]float64{}, map[string][]float64{}
	err := b.inTurn(b.scale.crashes, b.shippers(), func(s side, at place) error {
		done, err := b.crash(s, at)
		if err != nil {
			return err
		}
		newest, err := b.newestAt(s, at, at.file("alone.db"), "")
		if err != nil {
			return err
		}
		alone[s.name()] = append(alone[s.name()], float64(max(0, done-newest)))
		if newest, err = b.newestAfterRestart(s, at, newest); err != nil {
			return err
		}
		restarted[s.name()] = append(restarted[s.name()], float64(max(0, done-newest)))
		return nil
	})
	if err != nil {
		return nil, err
	}
	first := row{name: "commits lost at `kill -9`, 5 ms apart, from the store alone", target: "≤ 4", cells: map[string]string{}}
	second := row{name: "the same after a restart on the same machine", target: "0", cells: map[string]string{}}
	for _, s := range b.shippers() {
		first.cells[s.name()] = counts(alone[s.name()])
		second.cells[s.name()] = counts(restarted[s.name()])
	}
	return []row{first, second}, nil
}

// crash kills the daemon and then the application while that commits, and returns
// the last commit that the application saw succeed.
func (b *bench) crash(s side, at place) (done int, err error) {
	if _, err := b.do(job{Do: "create", DB: at.db()}); err != nil {
		return 0, err
	}
	d, err := s.start(b.ctx, at)
	if err != nil {
		return 0, err
	}
	cmd, err := job{Do: "ticks", DB: at.db(), Synchronous: "NORMAL"}.command(b.ctx)
	if err != nil {
		return 0, errors.Join(err, d.stop())
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return 0, errors.Join(err, d.stop())
	}
	killed := make(chan error, 1)
	// At any point of anybody's interval.
	time.AfterFunc(1500*time.Millisecond+rand.N(time.Second), func() {
		killed <- errors.Join(d.killOnly(), cmd.Process.Kill())
	})
	done, err = lastNumber(out)
	err = errors.Join(err, <-killed)
	if waited, exit := cmd.Wait(), (*exec.ExitError)(nil); !errors.As(waited, &exit) {
		err = errors.Join(err, waited) // otherwise it was killed, or lost its files first
	}
	return done, err
}

// lastNumber reads lines to the end and returns the last number.
func lastNumber(r io.Reader) (n int, err error) {
	for lines := bufio.NewScanner(r); ; {
		if !lines.Scan() {
			return n, lines.Err()
		}
		if n, err = strconv.Atoi(lines.Text()); err != nil {
			return n, err
		}
	}
}

// newestAfterRestart starts the daemon again, without the application, and
// returns the newest row in the store when it has ended properly; before is what
// was there already. Litestream is given time to notice.
func (b *bench) newestAfterRestart(s side, at place, before int) (int, error) {
	d, err := s.start(b.ctx, at)
	if err != nil {
		return 0, err
	}
	out := at.file("restarted.db")
	for until := time.Now().Add(3 * time.Second); s.name() == sideLitestream && time.Now().Before(until); {
		newest, err := b.newestAt(s, at, out, "")
		if err != nil {
			return 0, errors.Join(err, d.stop())
		}
		if err := os.Remove(out); err != nil {
			return 0, errors.Join(err, d.stop())
		}
		if newest > before {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err := d.stop(); err != nil {
		return 0, err
	}
	return b.newestAt(s, at, out, "")
}

// idle measures what databases cost that nobody uses.
func (b *bench) idle() ([]row, error) {
	r := row{name: fmt.Sprintf("%d idle databases: CPU / memory / descriptors", b.scale.databases), target: "< 0.1 % / < 60 MB / < 50", cells: map[string]string{}}
	err := b.inTurn(1, b.shippers(), func(s side, at place) error {
		if _, err := b.do(job{Do: "databases", DB: at.db(), Count: b.scale.databases}); err != nil {
			return err
		}
		d, err := s.start(b.ctx, at)
		if err != nil {
			return err
		}
		u, share, err := b.settled(d)
		r.cells[s.name()] = fmt.Sprintf("%.2f %% / %s / %d", 100*share, mega(u.resident), u.descriptors)
		return errors.Join(err, d.stop())
	})
	return []row{r}, err
}

// mountedAgain measures a mount of databases that have a past and have not changed.
func (b *bench) mountedAgain() ([]row, error) {
	r := row{name: fmt.Sprintf("%d unchanged databases mounted again: time / CPU / memory / descriptors", b.scale.many), target: "< 5 s of 10,000 / – / < 10 KB each / < 50", cells: map[string]string{}}
	s := walback{program: b.walback}
	err := b.inTurn(1, []side{s}, func(_ side, at place) error {
		if _, err := b.do(job{Do: "databases", DB: at.db(), Count: b.scale.many}); err != nil {
			return err
		}
		d, err := s.start(b.ctx, at)
		if err != nil {
			return err
		}
		// What was written a moment ago is not relied upon.
		time.Sleep(3 * time.Second)
		if err := d.stop(); err != nil {
			return err
		}
		began := time.Now()
		if d, err = s.start(b.ctx, at); err != nil {
			return err
		}
		took := time.Since(began)
		u, share, err := b.settled(d)
		r.cells[s.name()] = fmt.Sprintf("%s / %.2f %% / %s / %d", duration(took.Seconds()), 100*share, mega(u.resident), u.descriptors)
		return errors.Join(err, d.stop())
	})
	return []row{r}, err
}

// settled returns what d holds and the share of a processor that it uses, once
// what it does at first is over.
func (b *bench) settled(d *daemon) (u usage, share float64, err error) {
	before, err := d.usage()
	for until := time.Now().Add(b.scale.idle); time.Now().Before(until); {
		if err != nil {
			return u, 0, err
		}
		time.Sleep(time.Second)
		if u, err = d.usage(); u.cpu-before.cpu < 20*time.Millisecond {
			break
		}
		before = u
	}
	began := time.Now()
	if before, err = d.usage(); err != nil {
		return u, 0, err
	}
	time.Sleep(b.scale.idle)
	u, err = d.usage()
	return u, (u.cpu - before.cpu).Seconds() / time.Since(began).Seconds(), err
}
