package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// burst has every actor commit to the same database at the same time.
func (s *story) burst() {
	s.t.Helper()
	d := s.someSubject()
	if !d.exists() {
		return
	}
	s.leave(d)
	s.settle(d)
	s.leave(d)
	if !d.exists() {
		return
	}
	for len(s.actors) < 2 {
		s.someActor()
	}
	v := s.someVictim(3)
	set := "PRAGMA busy_timeout=20000; PRAGMA cache_size=5; PRAGMA wal_autocheckpoint=" + pick(s.random, "3", "20", "1000")
	if !d.wal {
		set += "; PRAGMA journal_mode=" + pick(s.random, "DELETE", "TRUNCATE", "PERSIST")
	}
	for _, a := range s.actors {
		a.tell(order{
			Do: burst, File: s.dsn(d), N: 2 + s.random.IntN(6), Seed: s.random.Uint64(),
			SQL: set + "; PRAGMA synchronous=" + pick(s.random, "OFF", "NORMAL", "FULL"), Looks: s.looks(),
		})
		s.tell("%s begins a burst on %s", a.name, d.path)
	}
	var said []answer
	if v != nobody {
		<-time.After(time.Duration(s.random.IntN(40)) * time.Millisecond)
	}
	if v == theDaemon || v == both {
		s.kill()
	}
	if v == theActor || v == both {
		a := pick(s.random, s.actors...)
		said = a.kill()
		s.gone(a)
	}
	for _, a := range slices.Clone(s.actors) {
		said = append(said, s.hearOut(a, v)...)
	}
	s.enterBurst(d, v, said)
}

// hearOut returns what an actor tells until its order is done.
func (s *story) hearOut(a *actor, v victim) (said []answer) {
	s.t.Helper()
	for {
		ans, ok := a.hear()
		if !ok {
			if v == nobody || v == theActor {
				s.t.Fatalf("%s has ended: %s", a.name, a.ended())
			}
			s.tell("%s: %s", a.name, a.ended())
			s.gone(a)
			return said
		}
		if ans.What != done {
			said = append(said, ans)
			continue
		}
		if ans.Code != 0 && !ans.busy() && (v == nobody || v == theActor) {
			s.t.Fatalf("%s: a burst ends with %s", a.name, ans)
		}
		return said
	}
}

// enterBurst enters what was committed in a burst.
func (s *story) enterBurst(d *subject, v victim, said []answer) {
	s.t.Helper()
	made, begun := make(map[digest]answer), make(map[digest]answer)
	for _, ans := range said {
		s.known[ans.Content] = fmt.Sprintf("commit %d, in a burst on %s", ans.Number, d.path)
		switch ans.What {
		case committing:
			begun[ans.Content] = ans
		case committed:
			made[ans.Content] = ans
			delete(begun, ans.Content)
		}
	}
	all := slices.SortedFunc(func(yield func(answer) bool) {
		for _, ans := range made {
			if !yield(ans) {
				return
			}
		}
	}, func(a, b answer) int { return cmp.Compare(a.Number, b.Number) })
	var last answer
	for i, ans := range all {
		if i > 0 && ans.Number == last.Number {
			s.t.Fatalf("%s: commit %d was made twice: %s, %s", d.path, ans.Number, last, ans)
		}
		last = ans
	}
	for i, ans := range all {
		now := instant{at: ans.Ended, since: ans.Begun, state: ans.state, what: fmt.Sprintf("commit %d in a burst", ans.Number), commit: true}
		for _, later := range all[i+1:] {
			now.or = append(now.or, later.Content)
		}
		for _, never := range begun {
			if never.Number > ans.Number {
				now.or = append(now.or, never.Content)
			}
		}
		if ans.Unseen != "" { // it is found, and has a time, when somebody mounts again
			now.transaction = true
			d.late = append(d.late, now)
		} else {
			d.instants = append(d.instants, now)
		}
		s.tell("%s: commit %d %s", d.path, ans.Number, ans)
	}
	if len(all) > 0 {
		d.now, d.maybe = last.Content, nil
	}
	if v != nobody {
		var may []digest
		for _, ans := range begun {
			may = append(may, ans.Content)
			s.tell("%s: maybe commit %d %s", d.path, ans.Number, ans)
		}
		s.struck(v, d, may...)
	}
	if s.daemon != nil {
		s.settle(d)
	}
}
