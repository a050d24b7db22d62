package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// prepare makes the directories of the databases.
func (s *story) prepare() {
	s.t.Helper()
	for _, dir := range exchanged {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
}

// exchanged are directories that take each other's names.
var exchanged = [2]string{"sub", "other"}

// absorb puts all of a database into its main file, and nobody has it open then.
func (s *story) absorb(d *subject) {
	s.t.Helper()
	s.leave(d)
	s.settle(d)
	s.leave(d)
	if !d.exists() {
		return
	}
	se := s.open(s.someActor(), d)
	if se == nil || !s.exec(se, "PRAGMA wal_checkpoint(TRUNCATE)") {
		s.t.Fatalf("%s is locked though nobody uses it", d.path)
	}
	s.close(se)
}

// pair returns a database, and another one or none.
func (s *story) pair() (from, to *subject) {
	s.t.Helper()
	from, to = s.someSubject(), pick(s.random, s.subjects...)
	if from == to || !from.exists() {
		return nil, nil
	}
	return from, to
}

// copyFile copies a database to another path without SQLite, which no journal
// tells of.
func (s *story) copyFile() {
	s.t.Helper()
	from, to := s.pair()
	if from == nil {
		return
	}
	s.absorb(from)
	s.absorb(to)
	s.dropJournals(to)
	began := wal.TimeOf(time.Now())
	err := cp(s.name(from), s.name(to))
	s.tell("cp %s %s: %v", from.path, to.path, err)
	if err != nil {
		s.t.Fatal(err)
	}
	s.replaced(to, from, began, "cp "+from.path)
}

// replaced takes note that to was overwritten with what from contains.
func (s *story) replaced(to, from *subject, began wal.Time, what string) {
	s.t.Helper()
	to.due = append(to.due, what, "in the middle of "+what)
	to.now, to.maybe, to.pageSize, to.wal, to.large = from.now, nil, from.pageSize, from.wal, from.large
	i := instant{since: began, state: state{Content: to.now}, what: what}
	s.imaged(to, &i)
	s.awaitCaptured(to, i)
	i.at = wal.TimeOf(time.Now())
	to.vague = append(to.vague, span{began, i.at})
	s.promise(to, i)
}

func cp(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // only read
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// dropJournals removes what would be taken for the journal of another file that
// comes to the path.
func (s *story) dropJournals(d *subject) {
	s.t.Helper()
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if err := os.Remove(s.name(d) + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.t.Fatal(err)
		}
	}
}

// move gives a database another name.
func (s *story) move() {
	s.t.Helper()
	from, to := s.pair()
	if from == nil {
		return
	}
	s.absorb(from)
	s.absorb(to)
	s.dropJournals(from)
	s.dropJournals(to)
	began := wal.TimeOf(time.Now())
	err := os.Rename(s.name(from), s.name(to))
	s.tell("mv %s %s: %v", from.path, to.path, err)
	if err != nil {
		s.t.Fatal(err)
	}
	s.replaced(to, from, began, "mv "+from.path)
	from.now, from.maybe = empty, nil
}

// exchange swaps the names of two directories while the databases in them are
// open. Connections go on with the files that they have, until their process is
// killed: at its end SQLite would remove a log by the name it had.
func (s *story) exchange() {
	s.t.Helper()
	var both [2]*subject
	for i, dir := range exchanged {
		d := s.subjects[slices.IndexFunc(s.subjects, func(d *subject) bool { return strings.HasPrefix(d.path, dir+"/") })]
		s.settle(d)
		s.hush(d, nil)
		both[i] = d
	}
	one, two := both[0], both[1]
	open := append(s.sessionsOn(one), s.sessionsOn(two)...)
	for _, se := range open {
		// Who has not seen yet that there is a log would look for it by a name that
		// leads elsewhere by then, and fail (with SQLITE_IOERR_FSTAT) in a plain
		// directory too.
		s.exec(se, "SELECT count(*) FROM t")
	}
	err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(s.dir, exchanged[0]), unix.AT_FDCWD, filepath.Join(s.dir, exchanged[1]), unix.RENAME_EXCHANGE)
	s.tell("%s and %s are exchanged: %v", exchanged[0], exchanged[1], err)
	if err != nil {
		s.t.Fatal(err)
	}
	one.now, two.now = two.now, one.now
	one.maybe, two.maybe = two.maybe, one.maybe
	one.pageSize, two.pageSize = two.pageSize, one.pageSize
	one.wal, two.wal = two.wal, one.wal
	one.large, two.large = two.large, one.large
	for _, d := range both {
		d.due = append(d.due, "it is what another one was")
	}
	for _, se := range open {
		se.on = both[1-slices.Index(both[:], se.on)]
		if s.mode == passed && se.on.exists() { // nobody can be held while its image is read
			s.awaitCaptured(se.on, instant{state: state{Content: se.on.now}, or: se.on.maybe})
		}
	}
	s.calm = true
	for _, se := range open {
		if se.on.exists() && se.on.wal && !se.loose {
			s.commit(se)
		}
	}
	s.calm = false
	for _, se := range open {
		if slices.Contains(s.actors, se.actor) {
			_ = se.kill() // it is doing nothing
			s.gone(se.actor)
		}
	}
	s.settle(one)
	s.settle(two)
}

func (s *story) remove() {
	s.t.Helper()
	d := s.someSubject()
	if !d.exists() {
		return
	}
	s.leave(d)
	// Without a journal that is hot, half a transaction would be a whole one.
	err := os.Remove(s.name(d))
	s.dropJournals(d)
	s.tell("rm %s: %v", d.path, err)
	if err != nil {
		s.t.Fatal(err)
	}
	d.now, d.maybe = empty, nil
}

// vacuumInto writes a database anew to a path where there is none.
func (s *story) vacuumInto() {
	s.t.Helper()
	from, to := s.pair()
	if from == nil || to.exists() || len(to.maybe) > 0 {
		return
	}
	s.leave(to)
	s.dropJournals(to)
	if err := os.Remove(s.name(to)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	s.settle(from)
	se := s.open(s.someActor(), from)
	if se == nil {
		return
	}
	began := wal.TimeOf(time.Now())
	if s.exec(se, "VACUUM INTO '"+s.name(to)+"'") {
		s.replaced(to, from, began, "VACUUM INTO")
	}
}

// backup replaces the content of a database, if there is one, with that of
// another, as .backup and .restore do.
func (s *story) backup() {
	s.t.Helper()
	from, to := s.pair()
	if from == nil {
		return
	}
	s.settle(from)
	s.settle(to)
	a := s.someActor()
	in, out := s.open(a, from), s.open(a, to)
	if in == nil || out == nil {
		return
	}
	v := s.someVictim(6)
	ans, ok := s.risk(a, order{Do: backUp, Conn: out.conn, From: in.conn, N: pick(s.random, -1, 5)}, v)
	s.tell("backup of %s to %s: %s", from.path, to.path, ans)
	to.due = append(to.due, "a backup may have changed the page size, or made the database")
	to.large = to.large || from.large
	if v != nobody {
		s.struck(v, to, from.now)
		return
	}
	if !ok || ans.Code != 0 && !ans.busy() && ans.Code != int(sqlite3.ErrReadonly) {
		s.t.Fatalf("backup of %s to %s: %s", from.path, to.path, ans)
	}
	if ans.Code != 0 {
		return
	}
	seen, ok := s.look(out, "main")
	if !ok || seen.Content != from.now {
		s.t.Fatalf("backup of %s to %s: %s", from.path, to.path, seen)
	}
	s.acknowledged(to, ans, seen.state, false, "backup of "+from.path)
}

// mountAgain ends the mount as a service manager does, and begins another.
func (s *story) mountAgain() {
	s.t.Helper()
	s.silence()
	s.tell("unmount")
	s.unmount()
	if s.random.IntN(3) == 0 {
		s.behindItsBack()
	}
	s.tell("mount")
	s.mount()
	s.settleAll()
}

// silence has every actor close everything, or be killed.
func (s *story) silence() {
	s.t.Helper()
	for _, a := range slices.Clone(s.actors) {
		a.orphans()
		kill := s.random.IntN(3) == 0
		if !kill {
			a.tell(order{Do: closeAll})
			_, ok := a.hear()
			kill = !ok // the kernel has ended it
		}
		if kill {
			s.tell("%s: %s", a.name, a.ended())
			s.gone(a)
		}
		a.sessions = nil
	}
}

// revive mounts again after the daemon was killed.
func (s *story) revive() {
	s.t.Helper()
	s.silence()
	if s.abandoned {
		s.abandoned = false
		if err := unix.Unmount(s.dir, unix.MNT_DETACH); err != nil {
			s.t.Fatal(err)
		}
		s.behindItsBack()
	}
	kills := remount(s.world, s.random)
	s.tell("mounted again, after %d kills more", kills)
	s.settleAll()
}

func (s *story) settleAll() {
	s.t.Helper()
	for _, d := range s.subjects {
		s.settle(d)
	}
}

// behindItsBack changes databases while they are not mounted.
func (s *story) behindItsBack() {
	s.t.Helper()
	for range 1 + s.random.IntN(2) {
		d := s.someKnown()
		if d == nil {
			continue
		}
		se := s.open(s.someActor(), d)
		if se == nil {
			continue
		}
		s.elsewhere(se)
	}
	s.silence()
}

// someKnown returns a database that there is, or nil.
func (s *story) someKnown() *subject {
	d := pick(s.random, s.subjects...)
	if !d.exists() {
		return nil
	}
	return d
}

// elsewhere commits to a plain file.
func (s *story) elsewhere(se *session) {
	s.t.Helper()
	if s.random.IntN(3) == 0 {
		s.exec(se, "PRAGMA journal_mode="+pick(s.random, "DELETE", "WAL"))
	}
	if !s.exec(se, "BEGIN IMMEDIATE; "+change(s.random, "main")+"; "+stamp("main")) {
		return
	}
	seen, ok := s.look(se, "main")
	if !ok || !s.exec(se, "COMMIT") {
		s.t.Fatalf("%s cannot commit to a plain file", se)
	}
	s.known[seen.Content] = fmt.Sprintf("what %s commits while not mounted", se)
	se.on.now, se.on.maybe = seen.Content, nil
	s.resized(se.on, seen.state)
	se.on.due = append(se.on.due, "changed while not mounted")
}
