package main

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// schema is that of every database: small rows, as of an application's log, and
// large ones, as of its documents.
const schema = `
	CREATE TABLE IF NOT EXISTS small (id INTEGER PRIMARY KEY, at INTEGER, note TEXT);
	CREATE TABLE IF NOT EXISTS large (id INTEGER PRIMARY KEY, body BLOB)`

const (
	insertSmall = `INSERT INTO small (at, note) VALUES (?, ?)`
	insertLarge = `INSERT INTO large (body) VALUES (?)`
	updateLarge = `UPDATE large SET body = ? WHERE id = ?`
)

// largeRow is the size of a large row, in bytes.
const largeRow = 1000

// note makes the text of a small row: 16 digits that cannot be foreseen among
// words that can.
func note(r *rand.Rand) string {
	return fmt.Sprintf("order %016x was paid and is to be sent", r.Uint64())
}

// body makes a large row, half of which cannot be compressed.
func body(r *rand.Rand) []byte {
	const words = "the quick brown fox jumps over the lazy dog and runs away from whoever looks for it "
	b := make([]byte, 0, largeRow+8)
	for len(b) < largeRow/2 {
		n := r.Uint64()
		b = append(b, byte(n), byte(n>>8), byte(n>>16), byte(n>>24), byte(n>>32), byte(n>>40), byte(n>>48), byte(n>>56))
	}
	for len(b) < largeRow {
		b = append(b, words[:min(len(words), largeRow-len(b))]...)
	}
	return b
}

// newRand gives the same values to all sides.
func newRand() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// inserting calls do with a statement that inserts a row, and what to make rows
// of.
func inserting(j job, text string, do func(c conn, insert prepared, r *rand.Rand) error) error {
	return with(j, func(c conn) error {
		insert, err := c.prepare(text)
		if err != nil {
			return err
		}
		return errors.Join(do(c, insert, newRand()), insert.Close())
	})
}

// inTransactions calls f n times, per times in one transaction.
func inTransactions(c conn, n, per int, f func() error) error {
	for done := 0; done < n; {
		if err := c.exec("BEGIN IMMEDIATE"); err != nil {
			return err
		}
		for range min(per, n-done) {
			if err := f(); err != nil {
				return err
			}
			done++
		}
		if err := c.exec("COMMIT"); err != nil {
			return err
		}
	}
	return nil
}

// createDatabase makes the database, with Bytes of large rows and Count small
// ones.
func createDatabase(j job, _ io.Writer) (result, error) {
	return result{}, with(j, func(c conn) error {
		// Nothing is measured yet, so nothing need survive a power loss either.
		if err := c.exec("PRAGMA synchronous = OFF;" + schema); err != nil {
			return err
		}
		small, err := c.prepare(insertSmall)
		if err != nil {
			return err
		}
		large, err := c.prepare(insertLarge)
		if err != nil {
			return err
		}
		r := newRand()
		err = errors.Join(
			inTransactions(c, j.Count, 10_000, func() error { return small.exec(r.Int64(), note(r)) }),
			inTransactions(c, int(j.Bytes/largeRow), 10_000, func() error { return large.exec(body(r)) }))
		return errors.Join(err, small.Close(), large.Close())
	})
}

// createDatabases makes Count databases beside DB, which they are named after.
func createDatabases(j job, out io.Writer) (result, error) {
	dir := filepath.Dir(j.DB)
	for i := range j.Count {
		one := job{DB: filepath.Join(dir, fmt.Sprintf("db%04d.db", i)), Count: 1}
		if _, err := createDatabase(one, out); err != nil {
			return result{}, err
		}
	}
	return result{Count: j.Count}, nil
}

// fillDatabase makes Count commits, each of which changes one large row.
func fillDatabase(j job, _ io.Writer) (result, error) {
	return result{Count: j.Count}, with(j, func(c conn) error {
		update, err := c.prepare(updateLarge)
		if err != nil {
			return err
		}
		rows, err := c.number("SELECT max(id) FROM large")
		r := newRand()
		for n := 0; n < j.Count && err == nil; n++ {
			err = update.exec(body(r), 1+r.Int64N(int64(rows)))
		}
		return errors.Join(err, update.Close())
	})
}

// commitAtFullSpeed commits transactions of Rows small rows for a time, or
// Count of them.
func commitAtFullSpeed(j job, _ io.Writer) (res result, err error) {
	err = inserting(j, insertSmall, func(c conn, insert prepared, r *rand.Rand) error {
		before, err := rusage()
		if err != nil {
			return err
		}
		began := time.Now()
		for last := began; err == nil && !j.over(res.Count, last.Sub(began)); res.Count++ {
			err = commitRows(c, insert, j.Rows, r)
			now := time.Now()
			res.Times = append(res.Times, now.Sub(last).Seconds())
			last = now
		}
		res.Seconds = time.Since(began).Seconds()
		after, e := rusage()
		res.CPU = after - before
		info, e2 := os.Stat(j.DB + "-wal")
		if e2 == nil {
			res.Log = info.Size()
		}
		return errors.Join(err, e, e2)
	})
	return res, err
}

// over reports whether j is done.
func (j job) over(count int, elapsed time.Duration) bool {
	if j.Count > 0 {
		return count >= j.Count
	}
	return elapsed >= j.For
}

func rusage() (float64, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return cpuTime(u), err
}

// commitRows commits n rows in one transaction, which for one row is the
// statement's own.
func commitRows(c conn, insert prepared, n int, r *rand.Rand) error {
	row := func() error { return insert.exec(driver.Value(r.Int64()), note(r)) }
	if n == 1 {
		return row()
	}
	return inTransactions(c, n, n, row)
}

// loadInBulk inserts Bytes of large rows, a thousand in a transaction.
func loadInBulk(j job, _ io.Writer) (res result, err error) {
	err = inserting(j, insertLarge, func(c conn, insert prepared, r *rand.Rand) error {
		began := time.Now()
		err := inTransactions(c, int(j.Bytes/largeRow), 1000, func() error { return insert.exec(body(r)) })
		res = result{Count: int(j.Bytes / largeRow), Seconds: time.Since(began).Seconds()}
		return err
	})
	return res, err
}

// readPoints selects small rows by their key for a time, each in a transaction
// of its own.
func readPoints(j job, _ io.Writer) (res result, err error) {
	err = with(j, func(c conn) error {
		if !j.EmptyLog {
			if err := c.exec("UPDATE small SET at = at + 1 WHERE id = 1"); err != nil {
				return err
			}
		}
		find, err := c.prepare("SELECT note FROM small WHERE id = ?")
		if err != nil {
			return err
		}
		// Every page is read once first.
		rows, err := c.number("SELECT count(*) FROM small WHERE note <> ''")
		r := newRand()
		began := time.Now()
		for ; err == nil && time.Since(began) < j.For; res.Count++ {
			_, err = find.row(1 + r.Int64N(int64(rows)))
		}
		res.Seconds = time.Since(began).Seconds()
		return errors.Join(err, find.Close())
	})
	return res, err
}
