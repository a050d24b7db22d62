package main

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Jobs on a database that walback-generate has made.

// readAccount opens the database and reads the account with the id Count.
func readAccount(j job, _ io.Writer) (result, error) {
	return answered(j, fmt.Sprintf("SELECT length(notes) FROM accounts WHERE id = %d", j.Count))
}

// scanAll reads every row of every table.
func scanAll(j job, _ io.Writer) (result, error) {
	return answered(j, "SELECT sum(length(notes)) FROM accounts", "SELECT sum(length(body)) FROM events")
}

// answered opens the database and asks for numbers, of which none is 0.
func answered(j job, queries ...string) (res result, err error) {
	began := time.Now()
	err = with(j, func(c conn) error {
		for _, q := range queries {
			n, err := c.number(q)
			if err == nil && n == 0 {
				err = errors.New("there is no such row: " + q)
			}
			if err != nil {
				return err
			}
		}
		res = result{Count: len(queries), Seconds: time.Since(began).Seconds()}
		return nil
	})
	return res, err
}
