package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
)

// Damage is an input/output error, and one line that names the object.
func TestDamageIsNeverServed(t *testing.T) {
	p := newPast(t)
	d := p.orders(t, "c1", "db.sqlite")
	key := generations.Object{Client: "c1", Generation: d.gen, Kind: generations.SegmentObject, First: 2}.Key()
	b, err := os.ReadFile(p.file(key))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(b); i += 13 {
		bad := bytes.Clone(b)
		bad[i] ^= 1 << (i % 8)
		if err := os.Remove(p.file(key)); err != nil {
			t.Fatal(err)
		}
		p.put(t, key, bad)
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			m := p.mount(t, nil)
			for range 3 {
				if _, err := os.ReadFile(m.path("c1/2024-01-14T15:45:01Z/db.sqlite")); !errors.Is(err, syscall.EIO) {
					t.Fatalf("got %v, want EIO", err)
				}
			}
			if log := m.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "wal/0000000002.wal") {
				t.Errorf("logged:\n%s", log)
			}
			if got, err := os.ReadFile(m.path("c1/@1/db.sqlite")); err != nil || !bytes.Equal(got, d.readOnly(1)) {
				t.Errorf("the transaction before the damage: %v", err)
			}
		})
	}
}

// An application that waits for a store in vain can be interrupted.
func TestReadersCanGiveUp(t *testing.T) {
	p := newPast(t)
	p.orders(t, "c1", "db.sqlite")
	s := &stoppedStore{Store: p.store}
	m := p.mount(t, func(o *Options) { o.Store = s })
	open, err := os.Open(m.path("c1/@1/db.sqlite")) // the tails are here now
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	asked := make(chan struct{}, 100)
	gate := func(ctx context.Context) error {
		asked <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	s.gate.Store(&gate)
	cmd := exec.Command("cat", m.path("c1/@2/db.sqlite"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait() // killed
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("a killed reader hangs")
	}
	s.gate.Store(nil)
}

// Signals that do not end an application, of a timer or a child, make nothing fail
// that waits for a store.
func TestSignalsInterruptNothing(t *testing.T) {
	p := newPast(t)
	p.orders(t, "c1", "db.sqlite")
	s := &stoppedStore{Store: p.store}
	m := p.mount(t, func(o *Options) { o.Store = s })
	asked, goOn := make(chan struct{}, 100), make(chan struct{})
	gate := func(ctx context.Context) error {
		asked <- struct{}{}
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.gate.Store(&gate)
	thread := make(chan int)
	failed := make(chan error)
	name := m.path("c1/@2/db.sqlite")
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		failed <- unix.Lstat(name, new(unix.Stat_t))
	}()
	id := <-thread
	<-asked
	for range 5 {
		if err := unix.Tgkill(os.Getpid(), id, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-failed:
			t.Fatalf("interrupted: %v", err)
		case <-time.After(20 * time.Millisecond): // it must not happen
		}
	}
	s.gate.Store(nil)
	close(goOn)
	if err := <-failed; err != nil {
		t.Errorf("interrupted, and then answered: %v", err)
	}
}

// Readers of one cold database at the same time cost what one of them does.
func TestConcurrentReadersShareTheirFetches(t *testing.T) {
	p := newPast(t)
	d := p.database(t, "c1", "db.sqlite")
	d.keep = false
	d.commit(t, `CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 2000)
		SELECT i, hex(randomblob(300)) v FROM n`)
	read := func(readers int) int {
		m := p.mount(t, nil)
		p.store.Reset()
		var wg sync.WaitGroup
		for range readers {
			wg.Go(func() {
				f, err := os.Open(m.path("c1/@1/db.sqlite"))
				if err != nil {
					t.Error(err)
					return
				}
				defer f.Close()
				if _, err := f.ReadAt(make([]byte, 1000), int64(len(d.image)/2)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		return p.store.Reset().Gets
	}
	one := read(1)
	if many := read(16); many != one {
		t.Errorf("%d GETs for 16 readers of one cold page, %d for one", many, one)
	}
}

// A cold SELECT by primary key fetches a fraction of what is stored; the second
// look at the same rows fetches nothing, whatever the path.
func TestColdSelectFetchesLittle(t *testing.T) {
	p := newPast(t)
	d := p.database(t, "c1", "db.sqlite")
	d.keep = false
	d.commit(t, `CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)`)
	d.commit(t, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 36000)
		INSERT INTO t SELECT i, hex(randomblob(250)) FROM n`)
	d.commit(t, `UPDATE t SET v = 'new' WHERE id % 6000 = 0`)
	stored := int64(0)
	for e, err := range p.store.List(t.Context(), "c1/", "") {
		if err != nil {
			t.Fatal(err)
		}
		stored += e.Size
	}
	dir := t.TempDir()
	packs := func(o *Options) {
		var err error
		if o.Cache, err = cache.New(p.store, nil, cache.Options{Dir: dir}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("cold", func(t *testing.T) {
		m := p.mount(t, packs)
		p.store.Reset()
		if got := sqlite(t, m.path("c1/2024-01-14T15:45:02Z/db.sqlite"), "SELECT length(v) FROM t WHERE id = 23456"); got != "500" {
			t.Errorf("got %s", got)
		}
		cold := p.store.Reset()
		t.Logf("%d bytes in %d GETs of %d stored for a database of %d", cold.Read, cold.Gets, stored, len(d.image))
		if cold.Read > stored/50 {
			t.Errorf("a cold SELECT fetched %d of %d stored bytes, more than 2 %%", cold.Read, stored)
		}
		sqlite(t, m.path("c1/@3/db.sqlite"), "SELECT v FROM t WHERE id = 23456")
		if warm := p.store.Reset(); warm.Gets > 0 {
			t.Errorf("%d GETs for rows that were just read", warm.Gets)
		}
	})
	t.Run("after a restart", func(t *testing.T) {
		m := p.mount(t, packs)
		p.store.Reset()
		sqlite(t, m.path("c1/@3/db.sqlite"), "SELECT v FROM t WHERE id = 23456")
		// The manifest is read anew.
		if again := p.store.Reset(); again.Gets > 1 {
			t.Errorf("%d GETs", again.Gets)
		}
	})
}
