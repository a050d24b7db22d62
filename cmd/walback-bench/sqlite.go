package main

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/mattn/go-sqlite3"
)

// conn is a connection straight to the driver: what database/sql does around it
// would be a good part of a small commit.
type conn struct{ driver.Conn }

// openDB opens j's database, in WAL mode unless that is the file's own business.
func openDB(j job) (conn, error) {
	values := url.Values{"_busy_timeout": {"10000"}}
	if j.ReadOnly {
		values.Set("mode", "ro")
	} else {
		values.Set("_journal_mode", "WAL")
	}
	if j.Synchronous != "" {
		values.Set("_synchronous", j.Synchronous)
	}
	c, err := (&sqlite3.SQLiteDriver{}).Open("file:" + (&url.URL{Path: j.DB}).EscapedPath() + "?" + values.Encode())
	if err != nil {
		return conn{}, fmt.Errorf("%s: %w", j.DB, err)
	}
	return conn{c}, nil
}

// with calls f with an open connection.
func with(j job, f func(conn) error) error {
	c, err := openDB(j)
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.Close())
}

// exec carries out statements that have no results.
func (c conn) exec(text string) error {
	_, err := c.Conn.(driver.ExecerContext).ExecContext(context.Background(), text, nil)
	return err
}

// prepared is a statement that is used over and over.
type prepared struct{ driver.Stmt }

func (c conn) prepare(text string) (prepared, error) {
	s, err := c.Prepare(text)
	return prepared{s}, err
}

func (p prepared) exec(args ...driver.Value) error {
	_, err := p.Exec(args)
	return err
}

// row returns the first column of the first row, nil when there is none.
func (p prepared) row(args ...driver.Value) (driver.Value, error) {
	rows, err := p.Query(args)
	if err != nil {
		return nil, err
	}
	values := make([]driver.Value, len(rows.Columns()))
	err = rows.Next(values)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return values[0], errors.Join(err, rows.Close())
}

// number asks for one integer.
func (c conn) number(text string) (int, error) {
	p, err := c.prepare(text)
	if err != nil {
		return 0, err
	}
	v, err := p.row()
	n, _ := v.(int64) // NULL is zero: no rows
	return int(n), errors.Join(err, p.Close())
}

// sqliteVersion returns which SQLite does the work.
func sqliteVersion() (version string, err error) {
	err = with(job{DB: ":memory:", ReadOnly: true}, func(c conn) error {
		p, err := c.prepare("SELECT sqlite_version()")
		if err != nil {
			return err
		}
		v, err := p.row()
		version, _ = v.(string)
		return errors.Join(err, p.Close())
	})
	return version, err
}
