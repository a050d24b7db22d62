package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/walback/walback/wal"
)

// A contender is one of several processes that increment the same counter as
// fast as they can. It gets its orders in JSON as its argument, and tells on
// stdout, a line each, which increments have been committed.
//
// The table counters has the total in the row of slot 0, and in each other row
// how much of it is of one contender.
type orders struct {
	Database    string
	JournalMode string
	Slot        int    // its row
	Increments  int    // how many it is to do
	Style       string // see below
	Exclusive   bool   // PRAGMA locking_mode=EXCLUSIVE
	Batch       int    // connects again after so many increments; 0: never
}

// How a contender deals with the others.
const (
	waiting  = "waiting"  // BEGIN IMMEDIATE, and SQLite waits for the lock
	retrying = "retrying" // one statement, done again when it is refused
)

// increment is one that has been committed.
type increment struct {
	Total int64 // slot 0 behind it
	Own   int64 // the contender's own slot
	At    wal.Time
	Busy  int // how often SQLite refused it before
}

const counters = `CREATE TABLE counters(slot INTEGER PRIMARY KEY, n INTEGER);
	INSERT INTO counters VALUES(0,0),(1,0),(2,0),(3,0),(4,0),(5,0),(6,0),(7,0),(8,0)`

// runContender is the main function of that process.
func runContender() {
	c := contender{reports: json.NewEncoder(os.Stdout)}
	err := json.Unmarshal([]byte(os.Args[1]), &c.orders)
	if err == nil {
		err = c.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "contender:", err)
		os.Exit(1)
	}
}

type contender struct {
	orders
	conn    *sqlite3.SQLiteConn
	reports *json.Encoder
}

func (c *contender) run() error {
	for done := 0; done < c.Increments; done++ {
		if c.Batch > 0 && done > 0 && done%c.Batch == 0 {
			if err := c.conn.Close(); err != nil {
				return err
			}
			c.conn = nil
		}
		made, err := c.increment()
		if err != nil {
			return err
		}
		if err := c.reports.Encode(made); err != nil {
			return err
		}
	}
	return c.conn.Close()
}

// increment increments the counter once, however often that is refused.
func (c *contender) increment() (made increment, err error) {
	for _, step := range c.steps(&made) {
		for err = step(); isBusy(err); err = step() {
			made.Busy++
		}
		if err != nil {
			return made, fmt.Errorf("slot %d: %w", c.Slot, err)
		}
	}
	made.At = wal.TimeOf(time.Now())
	return made, nil
}

// steps are what an increment consists of. Each can be done again.
func (c *contender) steps(made *increment) []func() error {
	update := func() (err error) {
		made.Total, made.Own, err = c.update()
		return err
	}
	if c.Style == retrying {
		return []func() error{c.connect, update}
	}
	return []func() error{c.connect, c.exec("BEGIN IMMEDIATE"), update, c.exec("COMMIT")}
}

func (c *contender) exec(statement string) func() error {
	return func() error {
		_, err := c.conn.Exec(statement, nil)
		return err
	}
}

// connect connects if there is no connection.
func (c *contender) connect() error {
	if c.conn != nil {
		return nil
	}
	timeout := 60_000
	if c.Style == retrying {
		timeout = 5
	}
	opened, err := (&sqlite3.SQLiteDriver{}).Open(fmt.Sprintf("file:%s?_busy_timeout=%d", c.Database, timeout))
	if err != nil {
		return err
	}
	conn := opened.(*sqlite3.SQLiteConn)
	set := "PRAGMA journal_mode=" + c.JournalMode + "; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=50"
	if c.Exclusive {
		set = "PRAGMA locking_mode=EXCLUSIVE; " + set
	}
	if _, err := conn.Exec(set, nil); err != nil {
		return errors.Join(err, conn.Close())
	}
	c.conn = conn
	return nil
}

// update adds one to the total and to the contender's own, and returns both.
func (c *contender) update() (total, own int64, err error) {
	text, err := table(c.conn, fmt.Sprintf("UPDATE counters SET n=n+1 WHERE slot IN (0, %d) RETURNING n", c.Slot))
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(text, &total, &own); err != nil {
		return 0, 0, fmt.Errorf("the counters are %q: %w", text, err)
	}
	return total, own, nil
}

func isBusy(err error) bool {
	e, ok := errors.AsType[sqlite3.Error](err)
	return ok && e.Code == sqlite3.ErrBusy
}
