package main

import (
	"bufio"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/mattn/go-sqlite3"
)

// A speaker is a process that does with a database what it is told, a step at a
// time, and tells what came of it. Several of them take locks in an order that
// nothing but the test decides.
//
//	speaker DATABASE
//
// It reads requests from stdin and answers each on stdout, both in JSON.
type request struct {
	Conn string // which of its connections; a new one is opened with its first use
	Do   string // a statement, or one of the words below
}

// What a speaker does besides SQL.
const (
	hangUp = "close" // the connection
	touch  = "touch" // open the database file and close it again, as if to copy it
)

// runSpeaker is the main function of that process.
func runSpeaker() {
	s := speaker{name: os.Args[1], conns: map[string]*sqlite3.SQLiteConn{}}
	answers := json.NewEncoder(os.Stdout)
	for requests := json.NewDecoder(os.Stdin); ; {
		var r request
		err := requests.Decode(&r)
		if err == nil {
			err = answers.Encode(s.do(r))
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "speaker:", err)
			os.Exit(1)
		}
	}
}

type speaker struct {
	name  string
	conns map[string]*sqlite3.SQLiteConn
}

// do does what r says and returns what came of it: "ok", rows, or what is wrong.
func (s *speaker) do(r request) string {
	text, err := s.try(r)
	var e sqlite3.Error
	switch {
	case !errors.As(err, &e) && err != nil:
		return err.Error()
	case e.ExtendedCode == sqlite3.ErrBusySnapshot:
		return "busy: old snapshot"
	case e.Code == sqlite3.ErrBusy:
		return "busy"
	case err != nil:
		return fmt.Sprintf("%v (%d)", e, e.ExtendedCode)
	}
	return text
}

func (s *speaker) try(r request) (string, error) {
	if r.Do == touch {
		f, err := os.Open(s.name)
		if err != nil {
			return "", err
		}
		return "ok", f.Close()
	}
	c, err := s.conn(r.Conn)
	if err != nil {
		return "", err
	}
	if r.Do == hangUp {
		delete(s.conns, r.Conn)
		return "ok", c.Close()
	}
	return table(c, r.Do)
}

// conn returns a connection that never waits for a lock.
func (s *speaker) conn(name string) (*sqlite3.SQLiteConn, error) {
	if c, ok := s.conns[name]; ok {
		return c, nil
	}
	opened, err := (&sqlite3.SQLiteDriver{}).Open("file:" + s.name + "?_busy_timeout=0")
	if err != nil {
		return nil, err
	}
	s.conns[name] = opened.(*sqlite3.SQLiteConn)
	return s.conns[name], nil
}

// table returns the rows that a statement answers, as the shell prints them, or
// "ok" when there are none.
func table(c *sqlite3.SQLiteConn, statement string) (string, error) {
	rows, err := c.Query(statement, nil)
	if err != nil {
		return "", err
	}
	var lines []string
	row := make([]driver.Value, len(rows.Columns()))
	for err = rows.Next(row); err == nil; err = rows.Next(row) {
		columns := make([]string, len(row))
		for i, v := range row {
			columns[i] = fmt.Sprint(v)
		}
		lines = append(lines, strings.Join(columns, "|"))
	}
	if err == io.EOF {
		err = nil
	}
	err = errors.Join(err, rows.Close())
	if len(lines) == 0 {
		return "ok", err
	}
	return strings.Join(lines, " "), err
}

// spoken is a speaker as the test sees it.
type spoken struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// speak starts a speaker. How it is started, in which namespace or as which user,
// is for the caller to say: wrap, if not nil, changes the command.
func speak(t *testing.T, database string, wrap func(*exec.Cmd)) *spoken {
	t.Helper()
	s := &spoken{t: t, cmd: exec.Command("speaker", database)}
	s.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	if wrap != nil {
		wrap(s.cmd)
	}
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = json.NewDecoder(bufio.NewReader(out))
	s.cmd.Stderr = t.Output()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	return s
}

// say has the speaker do something and returns its answer.
func (s *spoken) say(conn, what string) string {
	s.t.Helper()
	if err := json.NewEncoder(s.in).Encode(request{Conn: conn, Do: what}); err != nil {
		s.t.Fatal(err)
	}
	var answer string
	if err := s.out.Decode(&answer); err != nil {
		s.t.Fatalf("%s %s: the process has ended: %v", conn, what, err)
	}
	return answer
}

// want is say for one answer alone.
func (s *spoken) want(answer, what string) {
	s.t.Helper()
	if got := s.say("", what); got != answer {
		s.t.Errorf("%s: %s, want %s", what, got, answer)
	}
}

// end lets the process go, with its connections open: the kernel closes them.
func (s *spoken) end() {
	s.t.Helper()
	if err := s.in.Close(); err != nil {
		s.t.Error(err)
	}
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("a speaker ended: %v", err)
	}
}

// kill ends the process wherever it is.
func (s *spoken) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
		_ = s.cmd.Wait()                          // killed: that is an error
	}
}
