package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/walback/walback/wal"
)

// name returns the path of a database for applications.
func (s *story) name(d *subject) string { return filepath.Join(s.dir, filepath.FromSlash(d.path)) }

// dsn names a database for SQLite. Powersafe overwrite is on or off for a whole
// story: without it SQLite (3.54) takes a hot journal for an empty one that is
// shorter than 4096 bytes, as it may be with it.
func (s *story) dsn(d *subject) string { return "file:" + s.name(d) + s.psow }

// ask gives an actor an order that nothing can go wrong with but locks.
func (s *story) ask(a *actor, o order) answer {
	s.t.Helper()
	ans, ok := s.risk(a, o, nobody)
	if !ok {
		s.t.Fatalf("%s has ended: %s", a.name, a.ended())
	}
	if ans.Code != 0 && !ans.busy() {
		s.t.Fatalf("%s: %+v: %s", a.name, o, ans)
	}
	return ans
}

// exec executes statements on a connection. It returns false if others were in
// the way.
func (s *story) exec(se *session, sql string) bool {
	s.t.Helper()
	ans := s.ask(se.actor, order{Do: execSQL, Conn: se.conn, SQL: sql})
	s.tell("%s %s: %s: %s", se, se.on.path, sql, ans)
	return ans.Code == 0
}

// look returns what is in a schema as a connection sees it, within a transaction
// that it is in; false if that cannot be told.
func (s *story) look(se *session, schema string) (answer, bool) {
	s.t.Helper()
	ans := s.ask(se.actor, order{Do: lookAt, Conn: se.conn, SQL: schema})
	return ans, ans.Code == 0
}

// risk gives an actor an order while somebody may be killed. It returns the
// answer, and false if there is none.
func (s *story) risk(a *actor, o order, v victim) (ans answer, ok bool) {
	s.t.Helper()
	if s.daemon != nil && o.Looks == "" {
		o.Looks = s.looks()
	}
	return s.riskUnseen(a, o, v)
}

// riskUnseen is risk of an order that nobody need look behind, unless it says so.
func (s *story) riskUnseen(a *actor, o order, v victim) (ans answer, ok bool) {
	s.t.Helper()
	a.tell(o)
	if v == nobody {
		if ans, ok = a.hear(); ans.Unseen != "" {
			s.t.Fatalf("%s: the daemon has not looked: %s", a.name, ans.Unseen)
		}
		return ans, ok
	}
	<-time.After(time.Duration(s.random.IntN(pick(s.random, 200, 1000, 4000))) * time.Microsecond)
	if v != theActor {
		s.kill()
	}
	if v != theDaemon {
		said := a.kill()
		s.gone(a)
		s.tell("killed: %s, doing %+v", v, o)
		if len(said) == 0 {
			return answer{}, false
		}
		return said[len(said)-1], true
	}
	ans, ok = a.hear()
	s.tell("killed: %s, while %s was doing %+v: %s", v, a.name, o, ans)
	if !ok {
		s.tell("%s: %s", a.name, a.ended())
		s.gone(a)
	}
	return ans, ok
}

// struck takes note that somebody was killed in the middle of a change of
// databases, which may have become these contents.
func (s *story) struck(v victim, d *subject, may ...digest) {
	d.maybe = append(d.maybe, may...)
	switch {
	case v != theActor && !d.wal:
		d.due = append(d.due, "the daemon was killed during a change without a log")
	case !d.wal:
		d.due = append(d.due, rolledBack)
	case v != theDaemon && d.wal:
		// SQLite restarts a log without knowing of the commit at its end.
		d.due, d.unknown = append(d.due, "a log may have ended with a commit that nobody knew"), true
	}
}

// rolledBack: a rollback leaves free pages as the transaction wrote them, since
// journals do not have these. It may be found at the next mount only.
const rolledBack = "a hot journal may have been left"

// orphans takes note of the transactions that a process leaves when it ends.
func (a *actor) orphans() {
	for _, se := range a.sessions {
		if se.writing && !se.on.wal {
			se.on.due = append(se.on.due, rolledBack)
			se.writing = false
		}
	}
}

// open connects an actor to a database in some way. It returns nil if others are
// in the way.
func (s *story) open(a *actor, d *subject, set ...string) *session {
	s.t.Helper()
	a.opened++
	se := &session{actor: a, conn: a.opened, on: d}
	synchronous := pick(s.random, "OFF", "NORMAL", "FULL")
	se.full = synchronous == "FULL"
	sql := fmt.Sprintf("PRAGMA cache_size=%d; PRAGMA synchronous=%s; PRAGMA wal_autocheckpoint=%d; ",
		pick(s.random, 3, 10, 2000), synchronous, pick(s.random, 0, 1, 10, 1000))
	if s.random.IntN(6) == 0 {
		sql += "PRAGMA mmap_size=10000000; "
	}
	for _, more := range set {
		sql += more + "; "
	}
	ans := s.ask(a, order{Do: openConn, Conn: se.conn, File: s.dsn(d), SQL: sql})
	s.tell("%s opens %s: %s%s", se, d.path, sql, ans)
	if ans.Code != 0 {
		return nil
	}
	a.sessions = append(a.sessions, se)
	return se
}

// close closes a connection. What it has not committed is rolled back.
func (s *story) close(se *session) {
	s.t.Helper()
	ans := s.ask(se.actor, order{Do: closeConn, Conn: se.conn})
	s.tell("%s closes %s: %s", se, se.on.path, ans)
	se.drop(se)
}

// foundSome creates a database, which may end badly.
func (s *story) foundSome() {
	s.t.Helper()
	s.found(pick(s.random, s.subjects...))
}

// found creates a database.
func (s *story) found(d *subject) {
	s.t.Helper()
	if s.settle(d); d.exists() {
		return
	}
	se := s.open(s.someActor(), d, fmt.Sprintf("PRAGMA page_size=%d", 512<<s.random.IntN(8)),
		"PRAGMA auto_vacuum="+pick(s.random, "NONE", "FULL", "INCREMENTAL"))
	if se == nil {
		return
	}
	if s.random.IntN(3) > 0 {
		s.exec(se, "PRAGMA journal_mode=WAL")
	}
	d.due = append(d.due, "the database was created")
	sql := "BEGIN IMMEDIATE; " + create
	if d.large = s.random.IntN(20) == 0; d.large {
		sql += "; CREATE TABLE bulk(x); INSERT INTO bulk WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i < 17) SELECT randomblob(1000000) FROM c"
	}
	if s.exec(se, sql) {
		se.writing = true
		s.commit(se)
	}
}

// hush ends the transactions of all other connections to a database, so that
// nothing is in the way of one.
func (s *story) hush(d *subject, but *session) {
	s.t.Helper()
	for _, se := range slices.Clone(s.sessionsOn(d)) {
		switch {
		case se == but:
		case se.exclusive:
			s.close(se)
		case !free(se):
			s.exec(se, "ROLLBACK")
			se.writing, se.reading = false, false
		}
	}
}

// leave closes every connection to a database.
func (s *story) leave(d *subject) {
	s.t.Helper()
	for _, se := range slices.Clone(s.sessionsOn(d)) {
		s.close(se)
	}
}

// settle asks SQLite what is in a database, after somebody was killed or the
// daemon began anew, and makes sure that nothing acknowledged is lost.
func (s *story) settle(d *subject) {
	s.t.Helper()
	if !d.exists() && len(d.maybe) == 0 {
		return
	}
	se := s.open(s.someActor(), d)
	var ans answer
	ok := se != nil
	if ok {
		ans, ok = s.look(se, "main")
	}
	if !ok {
		s.leave(d)
		if se = s.open(s.someActor(), d); se != nil {
			ans, ok = s.look(se, "main")
		}
		if !ok {
			s.t.Fatalf("%s is locked though nobody uses it", d.path)
		}
	}
	s.tell("%s is %s", d.path, ans)
	was, maybe := d.now, d.maybe
	if ans.Content != was && !slices.Contains(maybe, ans.Content) {
		s.t.Fatalf("SQLite finds %s as of %s; acknowledged was %s", d.path, s.known[ans.Content], s.known[was])
	}
	d.now = ans.Content
	for _, i := range d.late {
		i.at = ans.Ended
		d.instants = append(d.instants, i)
	}
	d.late = nil
	s.resized(d, ans.state)
	if !d.exists() {
		d.maybe = nil
		return
	}
	i := instant{at: ans.Ended, since: ans.Begun, state: ans.state, or: maybe, what: "found again"}
	if d.large {
		s.awaitCaptured(d, i)
		i.at = wal.TimeOf(time.Now())
	}
	s.promise(d, i)
	if s.random.IntN(2) == 0 {
		s.close(se)
	}
}

// resized takes note of the page size and the kind of journal of a database.
func (s *story) resized(d *subject, st state) {
	d.wal = st.Mode == "wal"
	if d.pageSize != 0 && d.pageSize != st.PageSize {
		d.due = append(d.due, "the page size changed")
	}
	d.pageSize = st.PageSize
}

// promise enters an instant, and the bytes at it if nobody is in the way.
func (s *story) promise(d *subject, i instant) {
	s.t.Helper()
	if i.Raw == (digest{}) && s.random.IntN(2) == 0 && s.worth(d) && s.daemon != nil {
		s.imaged(d, &i)
	}
	d.instants = append(d.instants, i)
	if s.random.IntN(3) == 0 && s.daemon != nil && s.worth(d) {
		s.check(s.history, d, i)
	}
}

// imaged adds the bytes of a database to what is promised, unless somebody is in
// the way of looking at them.
func (s *story) imaged(d *subject, i *instant) {
	s.t.Helper()
	img := s.ask(s.someActor(), order{Do: takeImage, File: s.dsn(d)})
	if img.Code != 0 {
		return
	}
	if img.Content != i.Content {
		s.t.Fatalf("%s: another connection sees %s instead of %s", d.path, s.known[img.Content], s.known[i.Content])
	}
	i.Raw, i.Readable = img.Raw, img.Readable
}

// acknowledged takes note of what a database is after a change that has
// succeeded. Loose changes are captured a while later only, and so are those of a
// large database, which may be a new generation.
func (s *story) acknowledged(d *subject, ans answer, st state, loose bool, what string) {
	s.t.Helper()
	d.now, d.maybe = st.Content, nil
	s.resized(d, st)
	if s.daemon == nil {
		return // it will be looked at again
	}
	loose = loose || d.large
	i := instant{at: ans.Ended, since: ans.Begun, state: st, what: what, commit: !loose}
	if loose {
		s.imaged(d, &i)
		s.awaitCaptured(d, i)
		i.at = wal.TimeOf(time.Now())
	}
	s.promise(d, i)
}
