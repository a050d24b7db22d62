package main

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/mattn/go-sqlite3"
)

// schema: people, and what they do. Nobody's row ever goes away; events do.
const schema = `
	CREATE TABLE accounts (id INTEGER PRIMARY KEY, name TEXT, email TEXT, balance INTEGER, updated INTEGER, notes TEXT);
	CREATE TABLE events (id INTEGER PRIMARY KEY, account INTEGER, at INTEGER, kind TEXT, body TEXT)`

const index = `CREATE INDEX events_account ON events (account)`

// workload is an application.
type workload struct {
	path string
	conn driver.Conn
	r    *rand.Rand
	text *prose
	hot  *rand.Zipf

	accounts, events int // greatest ids
	oldest           int // event that has not been deleted

	addAccount, addEvent, update, remove, begin, commit statement
}

// newWorkload makes a database of about size bytes, in WAL mode.
func newWorkload(path string, size int64, r *rand.Rand) (*workload, error) {
	if size < 1<<20 {
		return nil, fmt.Errorf("a database of %d bytes is too small: give it 1MB", size)
	}
	// Nothing here has to survive a power failure: it is the commits that count,
	// which are the same ones.
	values := url.Values{"_journal_mode": {"OFF"}, "_synchronous": {"OFF"}, "_cache_size": {"-200000"}, "mode": {"rwc"}}
	conn, err := (&sqlite3.SQLiteDriver{}).Open("file:" + (&url.URL{Path: path}).EscapedPath() + "?" + values.Encode())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	w := &workload{path: path, conn: conn, r: r, text: newProse(r), oldest: 1}
	if err := w.fill(size); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), w.close())
	}
	w.hot = rand.NewZipf(r, 1.2, 20, uint64(w.accounts-1))
	return w, nil
}

// fill makes the database.
func (w *workload) fill(size int64) error {
	if err := w.exec(schema); err != nil {
		return err
	}
	for text, stmt := range map[string]*statement{
		`INSERT INTO accounts (id, name, email, balance, updated, notes) VALUES (?, ?, ?, ?, ?, ?)`: &w.addAccount,
		`INSERT INTO events (id, account, at, kind, body) VALUES (?, ?, ?, ?, ?)`:                   &w.addEvent,
		`UPDATE accounts SET balance = balance + ?, updated = ?, notes = ? WHERE id = ?`:            &w.update,
		`DELETE FROM events WHERE id = ?`:                                                           &w.remove,
		`BEGIN IMMEDIATE`:                                                                           &w.begin,
		`COMMIT`:                                                                                    &w.commit,
	} {
		var err error
		if *stmt, err = w.prepare(text); err != nil {
			return err
		}
	}
	// Events take more room once they are indexed.
	if err := w.grow(size*6/10, w.insertAccount); err != nil {
		return err
	}
	if err := w.grow(size*95/100, func() error { return w.insertEvent(time.Time{}) }); err != nil {
		return err
	}
	return errors.Join(w.exec(index), w.exec("PRAGMA journal_mode = WAL"), w.exec("PRAGMA wal_autocheckpoint = 0"))
}

// grow calls insert until the database has size bytes.
func (w *workload) grow(size int64, insert func() error) error {
	for {
		if err := w.inTransaction(func() error {
			for range min(1000, max(10, size>>16)) {
				if err := insert(); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		pages, err := w.number("PRAGMA page_count")
		if err != nil || pages*4096 >= size {
			return err
		}
	}
}

// transact commits one transaction.
func (w *workload) transact(at time.Time) error {
	return w.inTransaction(func() error {
		switch n := w.r.IntN(100); {
		case n < 45:
			return errors.Join(w.updateAccount(w.someHot(), at), w.insertEvent(at))
		case n < 70:
			return errors.Join(w.updateAccount(1+w.r.IntN(w.accounts), at), w.insertEvent(at))
		case n < 85:
			return w.updateAccount(w.someHot(), at)
		case n < 90:
			return w.insertAccount()
		case n < 95:
			return errors.Join(w.insertEvent(at), w.insertEvent(at), w.insertEvent(at))
		default:
			return w.removeEvents(at)
		}
	})
}

func (w *workload) insertAccount() error {
	w.accounts++
	name := w.text.name()
	return w.addAccount.exec(int64(w.accounts), name+" "+w.text.name(), fmt.Sprintf("%s.%d@example.com", name, w.accounts),
		w.r.Int64N(1_000_000), int64(0), w.text.text(100+w.r.IntN(600)))
}

func (w *workload) insertEvent(at time.Time) error {
	w.events++
	kinds := [...]string{"order", "payment", "refund", "message", "login"}
	return w.addEvent.exec(int64(w.events), int64(1+w.r.IntN(w.accounts)), at.UnixMicro(),
		kinds[w.r.IntN(len(kinds))], w.text.text(40+w.r.IntN(240)))
}

func (w *workload) updateAccount(id int, at time.Time) error {
	return w.update.exec(w.r.Int64N(2000)-1000, at.UnixMicro(), w.text.text(100+w.r.IntN(600)), int64(id))
}

// removeEvents deletes the oldest ones, and keeps the account that did it, so
// that every transaction changes something.
func (w *workload) removeEvents(at time.Time) error {
	for range 2 {
		if w.oldest < w.events {
			if err := w.remove.exec(int64(w.oldest)); err != nil {
				return err
			}
			w.oldest++
		}
	}
	return w.updateAccount(w.someHot(), at)
}

// someHot draws an account: few are drawn often. They are spread over the table.
func (w *workload) someHot() int {
	const spread = 2_654_435_761
	return 1 + int(w.hot.Uint64()*spread%uint64(w.accounts))
}

func (w *workload) inTransaction(do func() error) error {
	if err := w.begin.exec(); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return w.commit.exec()
}

// statement is a prepared one. The driver's own interface: what database/sql does
// around it is a good part of a small transaction.
type statement struct{ driver.Stmt }

func (w *workload) prepare(text string) (statement, error) {
	s, err := w.conn.Prepare(text)
	return statement{s}, err
}

func (s statement) exec(args ...driver.Value) error {
	_, err := s.Exec(args)
	return err
}

func (w *workload) exec(text string) error {
	_, err := w.conn.(driver.ExecerContext).ExecContext(context.Background(), text, nil)
	return err
}

func (w *workload) number(text string) (int64, error) {
	s, err := w.prepare(text)
	if err != nil {
		return 0, err
	}
	rows, err := s.Query(nil)
	if err != nil {
		return 0, errors.Join(err, s.Close())
	}
	values := make([]driver.Value, len(rows.Columns()))
	err = rows.Next(values)
	n, ok := values[0].(int64)
	if err == nil && !ok {
		err = io.ErrUnexpectedEOF
	}
	return n, errors.Join(err, rows.Close(), s.Close())
}

func (w *workload) close() error {
	var errs []error
	for _, s := range []statement{w.addAccount, w.addEvent, w.update, w.remove, w.begin, w.commit} {
		if s.Stmt != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(append(errs, w.conn.Close())...)
}
