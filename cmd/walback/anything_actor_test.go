package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"
)

// actor is a process that uses databases as the story wants it, while it lives.
type actor struct {
	t        *testing.T
	name     string
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	orders   *json.Encoder
	stderr   *bytes.Buffer
	answers  chan answer // closed when it has ended
	sessions []*session
	opened   int // sessions, ever
}

// session is a connection of an actor to a database.
type session struct {
	*actor
	conn    int
	on      *subject
	writing bool // has the write lock
	reading bool // in a read transaction
	// loose: its journal is in memory or nowhere. SQLite promises nothing when such
	// a process is killed, and such a transaction cannot be rolled back safely.
	loose     bool
	exclusive bool
	full      bool // it has its commits synced: they have the time of that
}

func startActor(t *testing.T, name string) *actor {
	t.Helper()
	a := &actor{t: t, name: name, cmd: exec.Command("actor"), stderr: new(bytes.Buffer), answers: make(chan answer)}
	a.cmd.Stderr = a.stderr
	in, err := a.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a.stdin, a.orders = in, json.NewEncoder(in)
	go func() {
		defer close(a.answers)
		for dec := json.NewDecoder(out); ; {
			var ans answer
			if dec.Decode(&ans) != nil {
				return // it has ended, maybe within an answer
			}
			a.answers <- ans
		}
	}()
	return a
}

// patience is how long an order may take. SQLite waits at most a few seconds
// for a lock.
const patience = 60 * time.Second

// tell gives an order. An actor that has ended does not hear it.
func (a *actor) tell(o order) { _ = a.orders.Encode(o) }

// hear waits for the next answer, and returns false when there will be none.
func (a *actor) hear() (answer, bool) {
	a.t.Helper()
	select {
	case ans, ok := <-a.answers:
		return ans, ok
	case <-time.After(patience):
		a.t.Fatalf("%s has nothing to tell", a.name)
		panic("unreachable")
	}
}

// kill ends the process and returns what it had still said.
func (a *actor) kill() (said []answer) {
	_ = a.cmd.Process.Kill() // it may have ended
	for ans := range a.answers {
		said = append(said, ans)
	}
	_ = a.cmd.Wait() // killed
	a.stdin.Close()
	a.orphans()
	a.sessions = nil
	return said
}

// ended reports how a process came to its end that nobody killed. Touching what
// the daemon's death has left of a mapped file is such a way.
func (a *actor) ended() string {
	a.stdin.Close()
	err := a.cmd.Wait()
	a.orphans()
	a.sessions = nil
	first, _, _ := strings.Cut(a.stderr.String(), "\n")
	return fmt.Sprintf("%v: %s", err, first)
}

// drop forgets a session that is closed.
func (a *actor) drop(se *session) {
	a.sessions = slices.DeleteFunc(a.sessions, func(other *session) bool { return other == se })
}

func (se *session) String() string { return fmt.Sprintf("%s.%d", se.name, se.conn) }

// busy reports whether others were in the way, as is right with several
// connections.
func (ans answer) busy() bool {
	return ans.Code == int(sqlite3.ErrBusy) || ans.Code == int(sqlite3.ErrLocked)
}

func (ans answer) String() string {
	text := "ok"
	if ans.Code != 0 {
		text = ans.Error
	}
	if ans.Value != "" {
		text += " " + ans.Value
	}
	if ans.Content != (digest{}) {
		text += fmt.Sprintf(" %x", ans.Content[:3])
	}
	return fmt.Sprintf("%s (%s to %s)", text, clock(ans.Begun), clock(ans.Ended))
}

// victim is who is killed while an order is carried out.
type victim int

const (
	nobody victim = iota
	theActor
	theDaemon
	both
)

func (v victim) String() string { return [...]string{"nobody", "the actor", "the daemon", "both"}[v] }

// someVictim draws one, mostly nobody.
func (s *story) someVictim(oneIn int) victim {
	if s.calm || s.random.IntN(oneIn) > 0 {
		return nobody
	}
	return pick(s.random, theActor, theActor, theDaemon, both)
}
