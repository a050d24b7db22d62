package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// Jobs in which it matters when a commit was made.

// commitAlone makes Count commits, each when everything before it has been
// shipped and nothing has happened for longer than anybody's interval, and
// measures how long each takes into the store.
func commitAlone(j job, _ io.Writer) (result, error) {
	var res result
	arrivals, err := watchStore(j.Store, j.Side)
	if err != nil {
		return res, err
	}
	err = inserting(j, insertSmall, func(c conn, insert prepared, r *rand.Rand) error {
		for ; res.Count < j.Count; res.Count++ {
			if err := arrivals.quiet(pause(res.Count)); err != nil {
				return err
			}
			began := time.Now()
			if err := commitRows(c, insert, 1, r); err != nil {
				return err
			}
			at, err := arrivals.next()
			if err != nil {
				return err
			}
			res.Times = append(res.Times, at.Sub(began).Seconds())
		}
		return nil
	})
	return res, errors.Join(err, arrivals.close())
}

// pause is how long nothing happens before the nth commit. It varies, so that
// the commits fall into every part of somebody's interval of a second.
func pause(n int) time.Duration {
	return 1300*time.Millisecond + time.Duration(n*37%100)*7*time.Millisecond
}

// commitEveryTick commits a row every five milliseconds and prints its number,
// for ever.
func commitEveryTick(j job, out io.Writer) (result, error) {
	return result{}, inserting(j, insertSmall, func(c conn, insert prepared, r *rand.Rand) error {
		for n := 1; ; n++ {
			if err := commitRows(c, insert, 1, r); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(out, n); err != nil {
				return err
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
}

// commitInPairs makes Count pairs of commits five milliseconds apart.
func commitInPairs(j job, _ io.Writer) (res result, err error) {
	err = inserting(j, insertSmall, func(c conn, insert prepared, r *rand.Rand) error {
		for n := range j.Count {
			err := commitRows(c, insert, 1, r)
			p := pair{First: 2*n + 1, Between: time.Now().Add(2 * time.Millisecond)}
			time.Sleep(5 * time.Millisecond)
			if err = errors.Join(err, commitRows(c, insert, 1, r)); err != nil {
				return err
			}
			res.Pairs = append(res.Pairs, p)
			time.Sleep(time.Duration(150+r.IntN(200)) * time.Millisecond)
		}
		return nil
	})
	return res, err
}

// readNewest returns the newest small row.
func readNewest(j job, _ io.Writer) (res result, err error) {
	err = with(j, func(c conn) (err error) {
		res.Newest, err = c.number("SELECT max(id) FROM small")
		return err
	})
	return res, err
}

// readFirstRow opens the database and reads one large row by its key.
func readFirstRow(j job, _ io.Writer) (res result, err error) {
	began := time.Now()
	err = with(j, func(c conn) error {
		n, err := c.number(fmt.Sprintf("SELECT length(body) FROM large WHERE id = %d", j.Count))
		if err == nil && n != largeRow {
			err = fmt.Errorf("row %d has %d bytes", j.Count, n)
		}
		res = result{Count: 1, Seconds: time.Since(began).Seconds()}
		return err
	})
	return res, err
}
