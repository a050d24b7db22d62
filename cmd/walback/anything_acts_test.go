package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/walback/walback/wal"
)

// commitSome ends the transaction of a connection, or makes one.
func (s *story) commitSome() {
	s.t.Helper()
	if se := s.someSession(func(se *session) bool { return !se.reading }); se != nil {
		s.commit(se)
	}
}

// begin begins a transaction and changes something.
func (s *story) begin(se *session) bool {
	s.t.Helper()
	if se.loose {
		s.clear(se)
	}
	se.writing = s.exec(se, "BEGIN IMMEDIATE; "+change(s.random, "main")+"; "+stamp("main"))
	return se.writing
}

// clear comes before a connection without a journal writes. It would pass over
// one that somebody left who was killed; another connection rolls that back.
func (s *story) clear(se *session) {
	s.t.Helper()
	s.hush(se.on, se)
	s.ask(s.someActor(), order{Do: takeImage, File: s.dsn(se.on)})
}

// commit commits what a connection has written.
func (s *story) commit(se *session) {
	s.t.Helper()
	s.commitDespite(se, s.someVictim(10))
}

// commitDespite commits, and kills somebody meanwhile, if that is fair.
func (s *story) commitDespite(se *session, v victim) {
	s.t.Helper()
	if !se.writing && !s.begin(se) {
		return
	}
	seen, ok := s.look(se, "main")
	if !ok {
		s.t.Fatalf("%s cannot read what it is about to commit: %s", se, seen)
	}
	s.known[seen.Content] = fmt.Sprintf("what %s commits at %s", se, clock(seen.Ended))
	loose := seen.Mode == "memory" || seen.Mode == "off"
	if loose {
		s.hush(se.on, se)
	}
	if loose || se.loose {
		v = nobody
	}
	risk := s.risk
	if se.full {
		risk = s.riskUnseen
	}
	ans, ok := risk(se.actor, order{Do: execSQL, Conn: se.conn, SQL: "COMMIT"}, v)
	s.tell("%s %s: commits %x in mode %s: %s", se, se.on.path, seen.Content[:3], seen.Mode, ans)
	switch {
	case ok && ans.Code == 0:
		se.writing = false
		s.acknowledged(se.on, ans, seen.state, loose, fmt.Sprintf("committed by %s", se))
	case v == nobody && ans.busy():
		se.writing = false
		s.exec(se, "ROLLBACK")
	case v == nobody || ok && v == theActor && !ans.busy():
		s.t.Fatalf("%s cannot commit: %s", se, ans)
	default:
		s.resized(se.on, seen.state)
		s.struck(v, se.on, seen.Content)
	}
	if v != nobody && s.daemon != nil {
		s.between(se.on)
	}
}

// between looks at a database of which nobody knows what it is.
func (s *story) between(d *subject) {
	s.t.Helper()
	if !d.exists() || s.random.IntN(2) == 0 {
		return
	}
	if d.large {
		return
	}
	now := wal.TimeOf(time.Now())
	s.check(s.history, d, instant{at: now, state: state{Content: d.now}, or: d.maybe, what: "behind a kill"})
}

// changeSome leaves a transaction open.
func (s *story) changeSome() {
	s.t.Helper()
	se := s.someSession(free)
	if se == nil || se.loose {
		return
	}
	if s.begin(se) && s.random.IntN(2) == 0 {
		s.exec(se, change(s.random, "main"))
	}
}

func (s *story) rollbackSome() {
	s.t.Helper()
	if se := s.someSession(func(se *session) bool { return se.writing }); se != nil && se.writing {
		s.exec(se, "ROLLBACK")
		se.writing = false
	}
}

// readSome begins a read transaction, or ends one.
func (s *story) readSome() {
	s.t.Helper()
	se := s.someSession(func(se *session) bool { return !se.writing })
	switch {
	case se == nil:
	case se.reading:
		s.exec(se, "COMMIT")
		se.reading = false
	case s.exec(se, "BEGIN; SELECT count(*) FROM t"):
		se.reading = true
	default:
		s.exec(se, "ROLLBACK")
	}
}

func (s *story) checkpoint() {
	s.t.Helper()
	se := s.someSession(free)
	if se == nil {
		return
	}
	v := s.someVictim(12)
	if se.loose {
		v = nobody
	}
	q := "PRAGMA wal_checkpoint(" + pick(s.random, "PASSIVE", "FULL", "RESTART", "TRUNCATE") + ")"
	if s.change(se, q, v) && v == nobody {
		return
	}
	if v != nobody {
		s.struck(v, se.on)
	}
}

// change executes something that leaves the content as it is. It returns
// whether SQLite said so.
func (s *story) change(se *session, q string, v victim) bool {
	s.t.Helper()
	ans, ok := s.risk(se.actor, order{Do: execSQL, Conn: se.conn, SQL: q}, v)
	s.tell("%s %s: %s: %s", se, se.on.path, q, ans)
	if ok && ans.Code != 0 && !ans.busy() && (v == nobody || v == theActor) {
		s.t.Fatalf("%s: %s: %s", se, q, ans)
	}
	if !ok && v == nobody {
		s.t.Fatalf("%s: %s: %s has ended: %s", se, q, se.name, se.ended())
	}
	return ok && ans.Code == 0
}

// switchMode changes the kind of journal.
func (s *story) switchMode() {
	s.t.Helper()
	se := s.someSession(free)
	if se == nil {
		return
	}
	if s.random.IntN(2) == 0 { // otherwise others are often in the way
		for _, other := range slices.Clone(s.sessionsOn(se.on)) {
			if other != se {
				s.close(other)
			}
		}
	}
	mode := pick(s.random, "WAL", "WAL", "WAL", "DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF")
	if (mode == "MEMORY" || mode == "OFF") && se.exclusive {
		return // its lock would never let anything be captured
	}
	if se.loose {
		s.clear(se)
	}
	// SQLite (3.54) goes on with pages that it remembers from before the last commits
	// of others when it leaves the log: it must have looked first.
	if !s.exec(se, "SELECT count(*) FROM t") {
		return
	}
	v := s.someVictim(20)
	if se.loose {
		v = nobody
	}
	ans, ok := s.risk(se.actor, order{Do: queryValue, Conn: se.conn, SQL: "PRAGMA journal_mode=" + mode}, v)
	s.tell("%s %s: journal_mode=%s: %s", se, se.on.path, mode, ans)
	if v != nobody {
		s.struck(v, se.on)
		return
	}
	if !ok || ans.Code != 0 && !ans.busy() {
		s.t.Fatalf("%s: journal_mode=%s: %s", se, mode, ans)
	}
	if ans.Code == 0 {
		loose := se.loose // the switch itself is a transaction
		se.loose = ans.Value == "memory" || ans.Value == "off"
		s.still(se, ans, loose || se.loose, "switched to "+ans.Value)
	}
}

// still promises that the content is what it was, whatever bytes have changed.
func (s *story) still(se *session, ans answer, loose bool, what string) {
	s.t.Helper()
	seen, ok := s.look(se, "main")
	if !ok {
		return
	}
	if seen.Content != se.on.now && !slices.Contains(se.on.maybe, seen.Content) {
		s.t.Fatalf("%s: %s sees %s instead of %s", se.on.path, se, s.known[seen.Content], s.known[se.on.now])
	}
	ans.Ended = seen.Ended
	maybe := se.on.maybe
	s.acknowledged(se.on, ans, seen.state, loose, what)
	se.on.maybe = maybe // it need not have written anything
	if n := len(se.on.instants); n > 0 {
		se.on.instants[n-1].commit, se.on.instants[n-1].or = false, maybe
	}
}

// adjust changes something that is no change of the database.
func (s *story) adjust() {
	s.t.Helper()
	se := s.someSession(free)
	if se == nil {
		return
	}
	switch s.random.IntN(6) {
	case 0:
		s.exec(se, fmt.Sprintf("PRAGMA cache_size=%d", pick(s.random, 3, 10, 2000)))
	case 1:
		s.exec(se, fmt.Sprintf("PRAGMA wal_autocheckpoint=%d", pick(s.random, 0, 1, 5, 1000)))
	case 2:
		s.exec(se, fmt.Sprintf("PRAGMA journal_size_limit=%d", pick(s.random, -1, 0, 20_000)))
	case 3:
		synchronous := pick(s.random, "OFF", "NORMAL", "FULL")
		se.full = s.exec(se, "PRAGMA synchronous="+synchronous) && synchronous == "FULL"
	case 4:
		s.ask(se.actor, order{Do: keepLog, Conn: se.conn})
		s.tell("%s keeps the log of %s", se, se.on.path)
	case 5:
		if se.loose {
			return
		}
		se.exclusive = !se.exclusive
		mode := "NORMAL"
		if se.exclusive {
			mode = "EXCLUSIVE"
		}
		s.exec(se, "PRAGMA locking_mode="+mode+"; SELECT count(*) FROM t")
	}
}

// rebuild vacuums in some way.
func (s *story) rebuild() {
	s.t.Helper()
	se := s.someSession(free)
	if se == nil {
		return
	}
	if se.loose {
		s.clear(se)
	}
	q := pick(s.random, "VACUUM", "VACUUM", fmt.Sprintf("PRAGMA incremental_vacuum(%d)", s.random.IntN(20)),
		"PRAGMA auto_vacuum="+pick(s.random, "NONE", "FULL", "INCREMENTAL")+"; VACUUM",
		fmt.Sprintf("PRAGMA page_size=%d; VACUUM", 512<<s.random.IntN(8)))
	v := s.someVictim(10)
	if se.loose {
		v = nobody
	}
	began := wal.TimeOf(time.Now())
	ok := s.change(se, q, v)
	switch {
	case v != nobody:
		s.struck(v, se.on)
	case ok:
		s.still(se, answer{Begun: began}, se.loose, q)
	}
}

func (s *story) openSome() {
	s.t.Helper()
	const most = 8
	d := s.someSubject()
	if len(s.sessionsOn(d)) < most {
		s.open(s.someActor(), d)
	}
}

func (s *story) closeSome() {
	s.t.Helper()
	if se := s.someSession(func(*session) bool { return true }); se != nil {
		s.close(se)
	}
}

// commitTwo commits a transaction over two databases.
func (s *story) commitTwo() {
	s.t.Helper()
	se := s.someSession(free)
	if se == nil || se.loose {
		return
	}
	other := s.someSubject()
	if other == se.on || !other.exists() {
		return
	}
	if !s.exec(se, "ATTACH '"+s.dsn(other)+"' AS other") {
		return
	}
	if s.exec(se, fmt.Sprintf("BEGIN IMMEDIATE; %s; %s; %s; %s",
		change(s.random, "main"), change(s.random, "other"), stamp("main"), stamp("other"))) {
		one, ok1 := s.look(se, "main")
		two, ok2 := s.look(se, "other")
		if !ok1 || !ok2 {
			s.t.Fatalf("%s cannot read what it is about to commit: %s, %s", se, one, two)
		}
		if s.commitBoth(se, other, one.state, two.state) {
			return // somebody was killed
		}
	}
	s.exec(se, "DETACH other")
}

// commitBoth returns whether somebody was killed.
func (s *story) commitBoth(se *session, other *subject, one, two state) bool {
	s.t.Helper()
	s.known[one.Content] = fmt.Sprintf("what %s commits with %s", se, other.path)
	s.known[two.Content] = fmt.Sprintf("what %s commits with %s", se, se.on.path)
	v := s.someVictim(4)
	ans, ok := s.risk(se.actor, order{Do: execSQL, Conn: se.conn, SQL: "COMMIT"}, v)
	s.tell("%s commits %x to %s and %x to %s: %s", se, one.Content[:3], se.on.path, two.Content[:3], other.path, ans)
	switch {
	case ok && ans.Code == 0:
		s.acknowledged(se.on, ans, one, false, "committed with "+other.path)
		s.acknowledged(other, ans, two, false, "committed with "+se.on.path)
	case v == nobody && ans.busy():
		s.exec(se, "ROLLBACK")
	case v == nobody || ok && v == theActor && !ans.busy():
		s.t.Fatalf("%s cannot commit: %s", se, ans)
	default:
		s.resized(se.on, one)
		s.resized(other, two)
		s.struck(v, se.on, one.Content)
		s.struck(v, other, two.Content)
	}
	return v != nobody
}

// overwrite kills a process while it commits to a log, and lets another commit
// there that has the database open all the time, and does not know of the first
// commit if that was not entered in the wal-index.
func (s *story) overwrite() {
	s.t.Helper()
	d := s.someSubject()
	if !d.exists() || !d.wal || len(s.actors) < 2 {
		return
	}
	s.leave(d)
	one, two := s.open(s.actors[0], d, "PRAGMA synchronous=FULL"), s.open(s.actors[1], d, "PRAGMA wal_autocheckpoint=0")
	if one == nil || two == nil {
		return
	}
	s.commitDespite(two, nobody) // it stays in the log, which goes on behind it
	s.commitDespite(one, theActor)
	s.commitDespite(two, nobody)
}

// halfway kills a process, or the daemon, when a part of a transaction without a
// log is in the file, and lets some time go by before anybody rolls it back.
func (s *story) halfway() {
	s.t.Helper()
	d := s.someSubject()
	if !d.exists() || d.wal || d.large {
		return
	}
	s.leave(d)
	se := s.open(s.someActor(), d, "PRAGMA cache_size=3; PRAGMA journal_mode="+pick(s.random, "DELETE", "TRUNCATE", "PERSIST"))
	if se == nil || !s.exec(se, "BEGIN IMMEDIATE; UPDATE t SET v = randomblob(1000); UPDATE meta SET n = n+1") {
		return
	}
	v := pick(s.random, theActor, theDaemon, both)
	s.tell("killed halfway: %s", v)
	d.due = append(d.due, rolledBack)
	if v != theActor {
		s.kill()
	}
	if v != theDaemon {
		_ = se.kill() // it was not doing anything
		s.gone(se.actor)
	}
	if s.daemon != nil {
		<-time.After(60 * time.Millisecond) // long enough for a quiet point
		s.between(d)
	}
}

// killIdle kills somebody who is doing nothing, perhaps in a transaction.
func (s *story) killIdle() {
	s.t.Helper()
	v := pick(s.random, theActor, theActor, theDaemon, both)
	if v != theActor {
		s.abandon()
	}
	s.tell("killed while idle: %s", v)
	if v != theActor {
		s.kill()
	}
	if v != theDaemon && len(s.actors) > 0 {
		a := pick(s.random, s.actors...)
		_ = a.kill() // it was not doing anything
		s.gone(a)
	}
}

// abandon decides whether the plain files will be used before the daemon that is
// about to be killed has a successor. Nobody else knows then of a commit that
// only the log holds, so all of it is saved in front: looking at it does that.
func (s *story) abandon() {
	s.t.Helper()
	if s.abandoned = s.random.IntN(3) == 0; !s.abandoned {
		return
	}
	for _, d := range s.subjects {
		if d.exists() {
			s.awaitCaptured(d, instant{state: state{Content: d.now}, or: d.maybe})
		}
	}
}
