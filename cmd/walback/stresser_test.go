package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/mattn/go-sqlite3"
)

// A stresser is one of several processes that commit to a database as fast as they
// can. It gets its habits in JSON as its argument, and tells on stdout, a line
// each, what it has committed. Each commit adds one to the number that the first
// table has as its only row, so that every commit is known by it.
type stressHabits struct {
	Database string
	Set      string // pragmas
	Commits  int
	Seed     uint64

	Checkpoint string // how to checkpoint every so often; "" leaves it to SQLite
	Every      int    // commits from one checkpoint to the next
	Batch      int    // connects again after so many commits; 0: never
	Large      int    // one in so many transactions changes all rows; 0: none
	Look       int    // tells the content as of one in so many commits
}

// stressCommit is what it tells.
type stressCommit struct {
	Number  int
	Content digest // as of the commit before, of the database's bytes; mostly not looked at
}

// The number has always as many digits, so that it stays where it is in page 2.
const stressTables = `CREATE TABLE counter(n TEXT); INSERT INTO counter VALUES('000000000000');
	CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB);
	WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < 200) INSERT INTO t SELECT i, randomblob(800) FROM c`

// runStresser is the main function of that process.
func runStresser() {
	s := stresser{told: json.NewEncoder(os.Stdout)}
	err := json.Unmarshal([]byte(os.Args[1]), &s.stressHabits)
	if err == nil {
		s.random = rand.New(rand.NewPCG(s.Seed, s.Seed))
		err = s.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stresser:", err)
		os.Exit(1)
	}
}

type stresser struct {
	stressHabits
	random *rand.Rand
	conn   *sqlite3.SQLiteConn
	told   *json.Encoder
}

func (s *stresser) run() (err error) {
	for made := range s.Commits {
		if s.Batch > 0 && made > 0 && made%s.Batch == 0 {
			if err := s.conn.Close(); err != nil {
				return err
			}
			s.conn = nil
		}
		if err := s.retry(s.begin); err != nil {
			return err
		}
		if err := s.commit(made); err != nil {
			return err
		}
		if s.Checkpoint == "" || made%s.Every > 0 {
			continue
		}
		// Others may be in the way: then it comes to less, and is done again later.
		if _, err := s.conn.Exec("PRAGMA wal_checkpoint("+s.Checkpoint+")", nil); err != nil && !isBusy(err) {
			return err
		}
	}
	return s.conn.Close()
}

// retry does something until nobody is in the way. Waiting as SQLite does would
// let most of the time go by.
func (s *stresser) retry(f func() error) error {
	for {
		err := f()
		if !isBusy(err) {
			return err
		}
		time.Sleep(time.Duration(s.random.IntN(500)) * time.Microsecond)
	}
}

// begin begins a transaction, connected anew if need be.
func (s *stresser) begin() error {
	if s.conn == nil {
		c, err := openDatabase(s.Database, s.Set)
		if err != nil {
			return err
		}
		s.conn = c
	}
	err := s.exec("BEGIN IMMEDIATE")()
	if isBusy(err) && s.Batch > 0 { // two that wait for each other to go would wait for ever
		err = cmp.Or(s.conn.Close(), err)
		s.conn = nil
	}
	return err
}

func (s *stresser) exec(q string) func() error {
	return func() error {
		_, err := s.conn.Exec(q, nil)
		return err
	}
}

func (s *stresser) commit(made int) error {
	var c stressCommit
	if s.Look > 0 && made%s.Look == 0 {
		content, err := s.conn.Serialize("main")
		if err != nil {
			return err
		}
		c.Content = sha256.Sum256(content)
	}
	n, err := table(s.conn, "UPDATE counter SET n = printf('%012d', n+1) RETURNING n+0")
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(n, &c.Number); err != nil {
		return fmt.Errorf("the number is %q: %w", n, err)
	}
	err = errors.Join(s.exec(s.change(made))(), s.retry(s.exec("COMMIT")))
	if err != nil {
		return err
	}
	return s.told.Encode(c)
}

// change returns a statement that changes something besides.
func (s *stresser) change(made int) string {
	switch {
	case s.Large > 0 && made%s.Large == 0:
		return "UPDATE t SET v = randomblob(800)"
	case s.random.IntN(20) == 0:
		return "SAVEPOINT s; DELETE FROM t WHERE id > 100; ROLLBACK TO s; RELEASE s"
	case s.random.IntN(20) == 0:
		return "INSERT INTO t(v) VALUES(randomblob(9000)); DELETE FROM t WHERE id > 201 AND id < (SELECT max(id) FROM t)"
	}
	return fmt.Sprintf("UPDATE t SET v = randomblob(800) WHERE id = %d", 1+s.random.IntN(200))
}
