package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/walback/walback/generations"
)

// conversations are steps of processes A, B and C over one database, each with
// one or two connections (A1, A2), none of which ever waits. Behind => is what
// SQLite answers. The table t has the one row 0.
var conversations = map[string]string{
	"rollback journal: shared, reserved, pending, exclusive": `
		A1 PRAGMA journal_mode=DELETE          => delete
		A1 BEGIN                               => ok
		A1 SELECT n FROM t                     => 0
		B1 BEGIN IMMEDIATE                     => ok
		C1 BEGIN IMMEDIATE                     => busy
		C1 SELECT n FROM t                     => 0
		B1 UPDATE t SET n=1                    => ok
		B1 COMMIT                              => busy
		C1 SELECT n FROM t                     => busy
		A1 SELECT n FROM t                     => 0
		A1 COMMIT                              => ok
		B1 COMMIT                              => ok
		C1 SELECT n FROM t                     => 1
		C1 BEGIN EXCLUSIVE                     => ok
		A1 SELECT n FROM t                     => busy
		B1 BEGIN IMMEDIATE                     => busy
		C1 ROLLBACK                            => ok
		A1 SELECT n FROM t                     => 1
		A1 BEGIN                               => ok
		A1 SELECT n FROM t                     => 1
		B1 BEGIN                               => ok
		B1 SELECT n FROM t                     => 1
		A1 UPDATE t SET n=2                    => ok
		B1 UPDATE t SET n=3                    => busy
		A1 COMMIT                              => busy
		B1 COMMIT                              => ok
		A1 COMMIT                              => ok
		B1 SELECT n FROM t                     => 2`,
	"rollback journal: two connections of a process": `
		A1 PRAGMA journal_mode=PERSIST         => persist
		A2 PRAGMA journal_mode=TRUNCATE        => truncate
		A1 BEGIN IMMEDIATE                     => ok
		A2 BEGIN IMMEDIATE                     => busy
		A2 SELECT n FROM t                     => 0
		B1 BEGIN IMMEDIATE                     => busy
		A2 close                               => ok
		B1 BEGIN IMMEDIATE                     => busy
		A1 UPDATE t SET n=1                    => ok
		A1 COMMIT                              => ok
		A1 BEGIN                               => ok
		A1 SELECT n FROM t                     => 1
		A2 BEGIN                               => ok
		A2 SELECT n FROM t                     => 1
		A1 COMMIT                              => ok
		B1 BEGIN EXCLUSIVE                     => busy
		A2 COMMIT                              => ok
		B1 BEGIN EXCLUSIVE                     => ok
		A1 SELECT n FROM t                     => busy
		A2 SELECT n FROM t                     => busy
		B1 COMMIT                              => ok`,
	// By POSIX a process loses its locks on a file when it closes any descriptor of it.
	"a lock is lost by closing the file": `
		A1 PRAGMA journal_mode=DELETE          => delete
		A1 BEGIN IMMEDIATE                     => ok
		B1 BEGIN IMMEDIATE                     => busy
		A1 touch                               => ok
		B1 BEGIN IMMEDIATE                     => ok
		B1 ROLLBACK                            => ok
		A1 ROLLBACK                            => ok`,
	"rollback journal: locks die with the process": `
		A1 PRAGMA journal_mode=DELETE          => delete
		A1 PRAGMA cache_size=1                 => ok
		A1 BEGIN IMMEDIATE                     => ok
		A1 INSERT INTO t SELECT zeroblob(9000) FROM (SELECT 1 UNION SELECT 2 UNION SELECT 3) => ok
		B1 BEGIN IMMEDIATE                     => busy
		C1 SELECT n FROM t                     => busy
		A1 kill                                => ok
		B1 SELECT count(*), n FROM t           => 1|0
		B1 BEGIN IMMEDIATE                     => ok
		B1 COMMIT                              => ok
		C1 PRAGMA integrity_check              => ok`,
	"rollback journal: EXCLUSIVE locking": `
		A1 PRAGMA journal_mode=DELETE          => delete
		A1 PRAGMA locking_mode=EXCLUSIVE       => exclusive
		A1 SELECT n FROM t                     => 0
		B1 SELECT n FROM t                     => 0
		B1 UPDATE t SET n=1                    => busy
		A1 UPDATE t SET n=2                    => ok
		B1 SELECT n FROM t                     => busy
		A1 PRAGMA locking_mode=NORMAL          => normal
		B1 SELECT n FROM t                     => busy
		A1 SELECT n FROM t                     => 2
		B1 SELECT n FROM t                     => 2`,
	"log: readers and one writer": `
		A1 PRAGMA journal_mode=WAL             => wal
		A1 BEGIN                               => ok
		A1 SELECT n FROM t                     => 0
		B1 UPDATE t SET n=1                    => ok
		A1 SELECT n FROM t                     => 0
		C1 SELECT n FROM t                     => 1
		A1 UPDATE t SET n=2                    => busy: old snapshot
		A1 COMMIT                              => ok
		A1 BEGIN IMMEDIATE                     => ok
		B1 BEGIN IMMEDIATE                     => busy
		C1 UPDATE t SET n=3                    => busy
		C1 SELECT n FROM t                     => 1
		A1 UPDATE t SET n=4                    => ok
		B1 SELECT n FROM t                     => 1
		A1 COMMIT                              => ok
		B1 SELECT n FROM t                     => 4
		C1 UPDATE t SET n=5                    => ok
		A1 BEGIN EXCLUSIVE                     => ok
		B1 SELECT n FROM t                     => 5
		C1 BEGIN IMMEDIATE                     => busy
		A1 ROLLBACK                            => ok`,
	"log: checkpoints": `
		A1 PRAGMA journal_mode=WAL             => wal
		A1 BEGIN                               => ok
		A1 SELECT n FROM t                     => 0
		B1 UPDATE t SET n=1                    => ok
		B1 UPDATE t SET n=2                    => ok
		B1 PRAGMA wal_checkpoint(PASSIVE)      => 0|2|0
		B1 PRAGMA wal_checkpoint(FULL)         => 1|2|0
		C1 PRAGMA wal_checkpoint(RESTART)      => 1|2|0
		C1 PRAGMA wal_checkpoint(TRUNCATE)     => 1|2|0
		A1 COMMIT                              => ok
		A1 BEGIN                               => ok
		A1 SELECT n FROM t                     => 2
		B1 PRAGMA wal_checkpoint(FULL)         => 0|2|2
		B1 PRAGMA wal_checkpoint(RESTART)      => 1|2|2
		A1 COMMIT                              => ok
		C1 BEGIN IMMEDIATE                     => ok
		B1 PRAGMA wal_checkpoint(PASSIVE)      => 0|2|2
		B1 PRAGMA wal_checkpoint(RESTART)      => 1|2|2
		B1 PRAGMA wal_checkpoint(TRUNCATE)     => 1|2|2
		C1 UPDATE t SET n=3                    => ok
		C1 COMMIT                              => ok
		B1 PRAGMA wal_checkpoint(TRUNCATE)     => 0|0|0
		A1 SELECT n FROM t                     => 3
		C1 UPDATE t SET n=4                    => ok
		B1 SELECT n FROM t                     => 4`,
	"log: two connections of a process": `
		A1 PRAGMA journal_mode=WAL             => wal
		A1 BEGIN IMMEDIATE                     => ok
		A2 BEGIN IMMEDIATE                     => busy
		B1 BEGIN IMMEDIATE                     => busy
		A2 SELECT n FROM t                     => 0
		A2 close                               => ok
		B1 BEGIN IMMEDIATE                     => busy
		A1 UPDATE t SET n=1                    => ok
		A1 COMMIT                              => ok
		A2 BEGIN                               => ok
		A2 SELECT n FROM t                     => 1
		B1 UPDATE t SET n=2                    => ok
		A1 PRAGMA wal_checkpoint(TRUNCATE)     => 1|2|1
		A1 close                               => ok
		A2 SELECT n FROM t                     => 1
		B1 PRAGMA wal_checkpoint(TRUNCATE)     => 1|2|1
		A2 COMMIT                              => ok
		B1 PRAGMA wal_checkpoint(TRUNCATE)     => 0|0|0`,
	"log: locks die with the process": `
		A1 PRAGMA journal_mode=WAL             => wal
		A1 UPDATE t SET n=1                    => ok
		A1 BEGIN IMMEDIATE                     => ok
		A1 UPDATE t SET n=2                    => ok
		B1 BEGIN                               => ok
		B1 SELECT n FROM t                     => 1
		C1 BEGIN IMMEDIATE                     => busy
		A1 kill                                => ok
		C1 BEGIN IMMEDIATE                     => ok
		C1 UPDATE t SET n=3                    => ok
		C1 COMMIT                              => ok
		C1 PRAGMA wal_checkpoint(RESTART)      => 1|2|1
		B1 kill                                => ok
		C1 PRAGMA wal_checkpoint(RESTART)      => 0|2|2
		C1 SELECT n FROM t                     => 3`,
	"log: EXCLUSIVE locking": `
		A1 PRAGMA journal_mode=WAL             => wal
		A1 SELECT n FROM t                     => 0
		A1 PRAGMA locking_mode=EXCLUSIVE       => exclusive
		B1 SELECT n FROM t                     => 0
		A1 UPDATE t SET n=1                    => busy
		B1 close                               => ok
		A1 UPDATE t SET n=1                    => ok
		B1 SELECT n FROM t                     => busy
		A1 PRAGMA locking_mode=NORMAL          => normal
		A1 SELECT n FROM t                     => 1
		B1 UPDATE t SET n=2                    => ok
		A1 close                               => ok
		B1 close                               => ok
		A1 PRAGMA locking_mode=EXCLUSIVE       => exclusive
		A1 UPDATE t SET n=3                    => ok
		B1 SELECT n FROM t                     => busy
		A1 PRAGMA locking_mode=NORMAL          => normal
		A1 SELECT n FROM t                     => 3
		B1 SELECT n FROM t                     => 3`,
	"the journal mode changes": `
		A1 PRAGMA journal_mode=WAL             => wal
		B1 SELECT n FROM t                     => 0
		A1 PRAGMA journal_mode=DELETE          => busy
		B1 close                               => ok
		A1 PRAGMA journal_mode=DELETE          => delete
		B1 BEGIN                               => ok
		B1 SELECT n FROM t                     => 0
		A1 PRAGMA journal_mode=WAL             => busy
		B1 COMMIT                              => ok
		A1 PRAGMA journal_mode=WAL             => wal
		B1 UPDATE t SET n=1                    => ok
		A1 SELECT n FROM t                     => 1`,
}

// TestLocks has the same conversations in a plain directory and in the mount.
func TestLocks(t *testing.T) {
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")})
	w.mount()
	for _, place := range []struct{ name, dir string }{{"plain", t.TempDir()}, {"mount", w.dir}} {
		t.Run(place.name, func(t *testing.T) {
			for about, script := range conversations {
				t.Run(about, func(t *testing.T) {
					converse(t, filepath.Join(place.dir, strings.ReplaceAll(about, " ", "-")+".db"), script)
				})
			}
		})
	}
}

// converse has the conversation on a new database.
func converse(t *testing.T, database, script string) {
	first := speak(t, database, nil)
	first.want("ok", "CREATE TABLE t(n)")
	first.want("ok", "INSERT INTO t VALUES(0)")
	first.end()
	speakers := map[byte]*spoken{}
	for line := range strings.Lines(strings.TrimSpace(script)) {
		step, want, ok := strings.Cut(strings.TrimSpace(line), "=>")
		conn, what, ok2 := strings.Cut(strings.TrimSpace(step), " ")
		if !ok || !ok2 {
			t.Fatalf("not a step: %s", line)
		}
		process := conn[0]
		if speakers[process] == nil {
			speakers[process] = speak(t, database, nil)
		}
		want, what = strings.TrimSpace(want), strings.TrimSpace(what)
		if what == "kill" {
			speakers[process].kill()
			delete(speakers, process)
			continue
		}
		if got := speakers[process].say(conn, what); got != want {
			t.Fatalf("%s %s: %s, want %s", conn, what, got, want)
		}
	}
	for _, s := range speakers {
		s.end()
	}
}
