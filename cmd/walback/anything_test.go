package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/storetest"
	"github.com/walback/walback/wal"
)

var (
	anythingSeed  = flag.Uint64("anything.seed", 0, "seed of the first story; 0: a new one")
	anythingRuns  = flag.Int("anything.runs", 1, "how many stories in each mode, each with the seed behind the last")
	anythingSteps = flag.Int("anything.steps", 60, "how much happens in a story")
)

// TestAnythingGoes tells stories: whatever SQLite offers is done to a few
// databases in a mount by a few processes, and they, or the daemon, or both, are
// killed. The content after each commit that SQLite acknowledged is found at its
// time, and nothing is found that was not there.
func TestAnythingGoes(t *testing.T) {
	inModes(t, func(t *testing.T, m mode) {
		seed := *anythingSeed
		if seed == 0 {
			seed = uint64(rand.Uint32())
		}
		for i := range uint64(*anythingRuns) {
			t.Run(fmt.Sprintf("%d", seed+i), func(t *testing.T) {
				s := newStory(t, m, seed+i)
				for range *anythingSteps {
					s.step()
				}
				s.finish()
			})
		}
	})
}

// story is what happens in one run.
type story struct {
	*world
	seed     uint64
	random   *rand.Rand
	psow     string // how applications name databases
	actors   []*actor
	started  int // actors, ever
	subjects []*subject
	known    map[digest]string // every content that there was, or may have been
	calm     bool              // nobody is to be killed now
	// abandoned: the daemon is killed, and applications go on with the plain files.
	abandoned bool
	told      []string
	kills     int
	logs      strings.Builder // of the daemons
}

// subject is the path of a database, which there may be or not.
type subject struct {
	path, client, file string
	now                digest // its content as last committed; empty when there is none
	// maybe are contents it may have instead: somebody was killed who was about to
	// commit them. A log may hold such a commit without any process knowing.
	maybe    []digest
	pageSize int
	wal      bool
	// large: too large to be read within a gate. What is committed while it is being
	// read is no instant.
	large    bool
	instants []instant
	late     []instant // commits that the daemon need not have seen when it was killed
	// vague are times at which a file was written that is no database meanwhile.
	vague []span
	due   []string // why a generation may have begun, one each
	// unknown: a log may have ended with a commit that no process knew of.
	unknown bool
}

// instant is a time at which a content is promised.
type instant struct {
	at     wal.Time
	since  wal.Time // when what led to it began
	state           // as SQLite sees it; the bytes only if looked at
	or     []digest // other contents that would be right
	what   string
	commit bool // it must be a transaction
	// transaction: it must be one, but not the last one at that time.
	transaction bool
}

type span struct{ from, to wal.Time }

// empty is the content of no database, and of one that has no tables.
var empty = digest(sha256.Sum256(nil))

func (d *subject) exists() bool { return d.now != empty }

func newStory(t *testing.T, m mode, seed uint64) *story {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, seed))
	store := generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")}
	if random.IntN(8) == 0 {
		store = storetest.Versitygw(t).URL("databases")
	}
	s := &story{
		world:  newWorld(t, store, "-interval", pick(random, "20ms", "100ms", "1s")),
		seed:   seed,
		random: random,
		psow:   pick(random, "", "", "?psow=0"),
		known:  map[digest]string{empty: "nothing"},
	}
	for _, path := range []string{"a.db", "b.db", "sub/db.sqlite", "other/db.sqlite"} {
		d := &subject{path: path, now: empty}
		d.client, d.file = generations.ClientOf(path)
		s.subjects = append(s.subjects, d)
	}
	t.Cleanup(func() {
		for _, a := range s.actors {
			_ = a.kill()
		}
		if t.Failed() {
			t.Logf("the daemons said:\n%s", &s.logs)
			t.Logf("-test.run TestAnythingGoes/%s -anything.seed=%d: the story so far:\n%s", m, seed, strings.Join(s.told, "\n"))
		}
	})
	s.mode = m
	s.prepare()
	s.mount()
	s.someSubject()
	return s
}

// kill ends the daemon as a lack of memory would.
func (s *story) kill() {
	s.kills++
	s.logs.WriteString(s.daemon.log())
	s.world.kill()
}

// unmount ends it as a service manager would.
func (s *story) unmount() {
	s.t.Helper()
	d := s.daemon
	s.world.unmount()
	s.logs.WriteString(d.log())
}

// tell adds to the story.
func (s *story) tell(format string, args ...any) {
	s.told = append(s.told, clock(wal.TimeOf(time.Now()))+" "+fmt.Sprintf(format, args...))
}

// clock is a time without its date.
func clock(at wal.Time) string {
	_, text, _ := strings.Cut(at.String(), "T")
	return strings.TrimSuffix(text, "Z")
}

// step lets something happen.
func (s *story) step() {
	s.t.Helper()
	acts := []struct {
		weight int
		do     func()
	}{
		{30, s.commitSome},
		{6, s.changeSome},
		{4, s.rollbackSome},
		{4, s.readSome},
		{8, s.checkpoint},
		{6, s.switchMode},
		{6, s.adjust},
		{5, s.rebuild},
		{4, s.openSome},
		{2, s.foundSome},
		{3, s.closeSome},
		{3, s.burst},
		{4, s.commitTwo},
		{3, s.overwrite},
		{2, s.halfway},
		{2, s.backup},
		{1, s.vacuumInto},
		{1, s.copyFile},
		{2, s.move},
		{1, s.exchange},
		{1, s.remove},
		{2, s.killIdle},
		{2, s.mountAgain},
		{3, s.lookBack},
	}
	sum := 0
	for _, a := range acts {
		sum += a.weight
	}
	n := s.random.IntN(sum)
	for _, a := range acts {
		if n -= a.weight; n < 0 {
			a.do()
			break
		}
	}
	if s.daemon == nil {
		s.revive()
	}
}

// someActor returns one that lives.
func (s *story) someActor() *actor {
	s.t.Helper()
	const most = 3
	if n := len(s.actors); n == 0 || n < most && s.random.IntN(6) == 0 {
		s.started++
		s.actors = append(s.actors, startActor(s.t, fmt.Sprintf("p%d", s.started)))
	}
	return pick(s.random, s.actors...)
}

// gone takes note that an actor has ended.
func (s *story) gone(a *actor) {
	s.actors = slices.DeleteFunc(s.actors, func(other *actor) bool { return other == a })
}

// someSubject returns a database that there is.
func (s *story) someSubject() *subject {
	s.t.Helper()
	var there []*subject
	for _, d := range s.subjects {
		if d.exists() {
			there = append(there, d)
		}
	}
	if len(there) == 0 || len(there) < len(s.subjects) && s.random.IntN(20) == 0 {
		d := pick(s.random, s.subjects...)
		s.calm = true
		s.found(d)
		s.calm = false
		return d
	}
	return pick(s.random, there...)
}

// someSession returns a connection that suits, or nil if it could not be had.
func (s *story) someSession(suits func(*session) bool) *session {
	s.t.Helper()
	var all []*session
	for _, a := range s.actors {
		for _, se := range a.sessions {
			if se.on.exists() && suits(se) {
				all = append(all, se)
			}
		}
	}
	if len(all) == 0 || s.random.IntN(8) == 0 {
		d := s.someSubject()
		return s.open(s.someActor(), d)
	}
	return pick(s.random, all...)
}

// free is a connection that is in no transaction.
func free(se *session) bool { return !se.writing && !se.reading }

// sessionsOn returns every connection to a database.
func (s *story) sessionsOn(d *subject) (all []*session) {
	for _, a := range s.actors {
		for _, se := range a.sessions {
			if se.on == d {
				all = append(all, se)
			}
		}
	}
	return all
}
