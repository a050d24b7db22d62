package main

import (
	"crypto/sha256"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// An application that lives through the death of the daemon runs in a process of
// its own: it maps files of the mount, and the kernel may end it for touching
// them. It tells on stdout what it does, a report a line, and goes on until its
// stdin ends:
//
//	application DATABASE SEED [MOUNT]
//
// With a mount it waits for a look behind each commit, see awaitLook.
type report struct {
	What string // see below
	Row  int    // the number of the last row

	Time    wal.Time // when it was so
	Content digest   // of opened and seen
	Text    string   `json:",omitempty"` // of lost: why
}

const (
	opened     = "opened"     // connected (again) to a database that is intact
	committing = "committing" // Row, now
	committed  = "committed"  // Row: COMMIT has returned
	looked     = "looked"     // behind that: the daemon has seen it
	seen       = "seen"       // the content after Row
	lost       = "lost"       // something failed, as it does when the daemon is gone
)

// runApplication is the main function of that process.
func runApplication() {
	seed, err := strconv.ParseUint(os.Args[2], 10, 64)
	if err == nil {
		a := &application{name: os.Args[1], looks: strings.Join(os.Args[3:], ""), random: rand.New(rand.NewPCG(seed, seed)), reports: json.NewEncoder(os.Stdout), stop: make(chan struct{})}
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			close(a.stop)
		}()
		err = a.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "application:", err)
		os.Exit(1)
	}
}

type application struct {
	name    string
	looks   string // the mount to wait for, if any
	random  *rand.Rand
	reports *json.Encoder
	stop    chan struct{} // closed at the end
	row     int           // the last that is committed
	large   bool          // looking at all of the database takes long
	mount   *os.File      // its root, while connected
}

func (a *application) stopped() bool {
	select {
	case <-a.stop:
		return true
	default:
		return false
	}
}

// run works, and connects again each time that something fails.
func (a *application) run() error {
	dir := filepath.Dir(a.name)
	for !a.stopped() {
		// Not the plain directory, which shows while the daemon is being restarted.
		if err := awaitMounts([]string{dir}, func(_, _ []string) bool { return served(dir) }); err != nil {
			return err
		}
		if err := a.work(); err != nil {
			if err := a.report(report{What: lost, Text: err.Error()}); err != nil {
				return err
			}
		}
	}
	return nil
}

// served reports whether a daemon answers for dir.
func served(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC
}

func (a *application) report(r report) error {
	r.Time = wal.TimeOf(time.Now())
	return a.reports.Encode(r)
}

// work connects and commits until told to stop, or until something fails. One
// connection writes; others read and checkpoint whenever they like.
func (a *application) work() (err error) {
	if a.mount, err = os.Open(filepath.Dir(a.name)); err != nil {
		return err
	}
	defer a.mount.Close() // only read
	conns, err := a.connect(3)
	if err == nil {
		err = a.takeStock(conns[0])
	}
	if err == nil {
		done := make(chan struct{})
		var others sync.WaitGroup
		errs := make([]error, 2)
		seed := a.random.Uint64()
		others.Go(func() { errs[0] = a.checkpoint(conns[1], done, seed) })
		others.Go(func() { errs[1] = a.read(conns[2], done) })
		err = a.write(conns[0], a.random)
		close(done)
		others.Wait()
		err = errors.Join(err, errs[0], errs[1])
	}
	for _, c := range conns {
		err = errors.Join(err, c.Close())
	}
	return err
}

func (a *application) connect(n int) (conns []*sqlite3.SQLiteConn, err error) {
	for range n {
		c, err := (&sqlite3.SQLiteDriver{}).Open(a.name)
		if err != nil {
			return conns, err
		}
		conn := c.(*sqlite3.SQLiteConn)
		conns = append(conns, conn)
		const set = "PRAGMA busy_timeout=20000; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=20; PRAGMA wal_autocheckpoint=40"
		if _, err := conn.Exec(set, nil); err != nil {
			return conns, fmt.Errorf("connecting: %w", err)
		}
	}
	return conns, nil
}

// takeStock reports what there is.
func (a *application) takeStock(c *sqlite3.SQLiteConn) error {
	if _, err := c.Exec("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v BLOB)", nil); err != nil {
		return err
	}
	pages, err := value(c, "PRAGMA page_count")
	if err != nil {
		return err
	}
	check := "PRAGMA integrity_check"
	if a.large = pages.(int64) > 4096; a.large {
		check += "(t)"
	}
	intact, err := value(c, check)
	if err != nil {
		return err
	}
	if intact != "ok" {
		return fmt.Errorf("integrity_check: %v", intact)
	}
	row, err := value(c, "SELECT coalesce(max(id), 0) FROM t")
	if err != nil {
		return err
	}
	if err := awaitLook(a.looks); err != nil {
		return err
	}
	a.row = int(row.(int64))
	content, err := a.content(c)
	if err != nil {
		return err
	}
	return a.report(report{What: opened, Row: a.row, Content: content})
}

// write commits one row after the other, with more or less besides.
func (a *application) write(c *sqlite3.SQLiteConn, random *rand.Rand) error {
	for !a.stopped() {
		if random.IntN(6) == 0 {
			if _, err := c.Exec("BEGIN IMMEDIATE; UPDATE t SET v=randomblob(500); ROLLBACK", nil); err != nil {
				return err
			}
		}
		changes := pick(random, "SELECT 1", "UPDATE t SET v=randomblob(length(v)) WHERE id%7=0",
			"UPDATE t SET v=randomblob(3000) WHERE id=(SELECT max(id) FROM t)",
			"UPDATE t SET v=NULL WHERE id%2=0", "DELETE FROM t WHERE id < (SELECT max(id)-100 FROM t)")
		q := fmt.Sprintf("BEGIN IMMEDIATE; %s; INSERT INTO t VALUES(%d, randomblob(%d))", changes, a.row+1, random.IntN(2000))
		if _, err := c.Exec(q, nil); err != nil {
			return err
		}
		if err := a.commit(c); err != nil {
			return err
		}
	}
	return nil
}

// commit commits the next row. Nothing is reported before it is true.
func (a *application) commit(c *sqlite3.SQLiteConn) error {
	if err := a.report(report{What: committing, Row: a.row + 1}); err != nil {
		return err
	}
	if _, err := c.Exec("COMMIT", nil); err != nil {
		return err
	}
	a.row++
	if err := a.report(report{What: committed, Row: a.row}); err != nil {
		return err
	}
	if err := awaitLook(a.looks); err != nil {
		return err
	}
	if err := a.report(report{What: looked, Row: a.row}); err != nil {
		return err
	}
	if a.large && a.row%16 != 0 {
		return nil
	}
	content, err := a.content(c)
	if err != nil {
		return err
	}
	return a.report(report{What: seen, Row: a.row, Content: content})
}

// content returns what the database contains. sqlite3_serialize leaves out what
// it fails to read and does not tell, so the daemon must still be there.
func (a *application) content(c *sqlite3.SQLiteConn) (digest, error) {
	content, err := c.Serialize("main")
	if err == nil {
		err = unix.Fstatfs(int(a.mount.Fd()), &unix.Statfs_t{})
	}
	return sha256.Sum256(content), err
}

// checkpoint checkpoints in every way, over and over.
func (a *application) checkpoint(c *sqlite3.SQLiteConn, done chan struct{}, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, seed))
	if _, err := c.Exec("PRAGMA busy_timeout=1", nil); err != nil {
		return err
	}
	for {
		select {
		case <-done:
			return nil
		case <-time.After(time.Duration(random.IntN(40)) * time.Millisecond):
		}
		_, err := c.Exec("PRAGMA wal_checkpoint("+pick(random, "PASSIVE", "FULL", "RESTART", "TRUNCATE")+")", nil)
		if e, ok := errors.AsType[sqlite3.Error](err); ok && e.Code == sqlite3.ErrBusy {
			continue
		}
		if err != nil {
			return err
		}
	}
}

// read holds read transactions open, so that checkpoints have to wait for it.
func (a *application) read(c *sqlite3.SQLiteConn, done chan struct{}) error {
	for {
		if _, err := c.Exec("BEGIN; SELECT count(*) FROM t", nil); err != nil {
			return err
		}
		select {
		case <-done:
			return nil
		case <-time.After(10 * time.Millisecond):
		}
		if _, err := c.Exec("SELECT sum(length(v)) FROM t; COMMIT", nil); err != nil {
			return err
		}
	}
}

// value returns the first column of the first row.
func value(c *sqlite3.SQLiteConn, q string) (driver.Value, error) {
	rows, err := c.Query(q, nil)
	if err != nil {
		return nil, err
	}
	row := make([]driver.Value, 1)
	err = rows.Next(row)
	return row[0], errors.Join(err, rows.Close())
}
