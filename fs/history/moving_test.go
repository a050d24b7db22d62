package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// eventually waits for something that another process brings about.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain: ", what)
		}
	}
}

// Names whose meaning can still change are looked up again; what is open does
// not change.
func TestNewCommitsAppear(t *testing.T) {
	p := newPast(t)
	d := p.orders(t, "c1", "db.sqlite")
	m := p.mount(t, nil)
	open, err := os.Open(m.path("c1", "latest", "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	later := (d.txns[2].Time + 10*second).String()
	read := func(instant string) []byte {
		b, err := os.ReadFile(m.path("c1", instant, "db.sqlite"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return b
	}
	for _, instant := range []string{"latest", later} {
		if !bytes.Equal(read(instant), d.readOnly(3)) {
			t.Errorf("%s is not transaction 3", instant)
		}
	}
	if read("@4") != nil {
		t.Error("@4 is there before it was committed")
	}
	d.commit(t, "INSERT INTO orders VALUES (11, 'new')")
	for _, instant := range []string{"latest", later, "@4"} {
		eventually(t, instant+" shows the new commit", func() bool { return bytes.Equal(read(instant), d.readOnly(4)) })
	}
	if got, err := io.ReadAll(open); err != nil || !bytes.Equal(got, d.readOnly(3)) {
		t.Errorf("a file that was open changed, or %v", err)
	}
	// A new client and a new neighbour.
	p.orders(t, "c2/new.db", "new.db")
	eventually(t, "the new client", func() bool {
		_, err := os.Stat(m.path("c2/new.db/latest/new.db"))
		return err == nil
	})
}

// A client that has just come is found at once, though nobody was there when it
// was looked for a moment ago.
func TestNewClientIsFound(t *testing.T) {
	p := newPast(t)
	m := p.mount(t, nil)
	for _, client := range []string{"new", "below/new"} {
		if _, err := os.Stat(m.path(client)); !os.IsNotExist(err) {
			t.Fatalf("%s: %v, want no such file", client, err)
		}
		p.orders(t, client, "db.sqlite")
		if _, err := os.Stat(m.path(client, "@2", "db.sqlite")); err != nil {
			t.Error(err)
		}
	}
}

// cp looks at a file, opens it, and refuses to copy another inode than the one
// it has looked at: through a moving name a commit may come in between.
func TestMovingNameKeepsItsInode(t *testing.T) {
	p := newPast(t)
	d := p.orders(t, "c1", "db.sqlite")
	m := p.mount(t, nil)
	var before, after unix.Stat_t
	if err := unix.Stat(m.path("c1", "latest", "db.sqlite"), &before); err != nil {
		t.Fatal(err)
	}
	d.commit(t, "INSERT INTO orders VALUES (11, 'new')")
	var content []byte
	eventually(t, "latest shows the new commit", func() bool {
		f, err := os.Open(m.path("c1", "latest", "db.sqlite"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.Fstat(int(f.Fd()), &after); err != nil {
			t.Fatal(err)
		}
		if content, err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		return bytes.Equal(content, d.readOnly(4))
	})
	if before.Ino != after.Ino || before.Dev != after.Dev {
		t.Errorf("inode %d became %d", before.Ino, after.Ino)
	}
	if before.Mtim == after.Mtim {
		t.Error("the time of the commit does not show")
	}
}

// spooled is a live mount's end of the way to the store: what is committed goes
// to the spool, and to the store when it is let.
type spooled struct {
	*database
	spool   *generations.Spool
	store   *stoppedStore
	shipper *generations.Shipper
	writer  *generations.Writer
}

// stoppedStore refuses to be written to while it is stopped, and asks when to
// answer.
type stoppedStore struct {
	generations.Store
	stopped atomic.Bool
	gate    atomic.Pointer[func(ctx context.Context) error]
}

func (s *stoppedStore) Put(ctx context.Context, key string, body *io.SectionReader) error {
	if s.stopped.Load() {
		return errors.New("the store is stopped")
	}
	return s.Store.Put(ctx, key, body)
}

func (s *stoppedStore) Get(ctx context.Context, key string, off, n int64) (*generations.Body, error) {
	if gate := s.gate.Load(); gate != nil {
		if err := (*gate)(ctx); err != nil {
			return nil, err
		}
	}
	return s.Store.Get(ctx, key, off, n)
}

func (s *stoppedStore) List(ctx context.Context, prefix, after string) iter.Seq2[generations.Entry, error] {
	if gate := s.gate.Load(); gate != nil {
		if err := (*gate)(ctx); err != nil {
			return func(yield func(generations.Entry, error) bool) { yield(generations.Entry{}, err) }
		}
	}
	return s.Store.List(ctx, prefix, after)
}

func (p *past) spooled(t *testing.T, client, file string) *spooled {
	t.Helper()
	s := &spooled{database: p.database(t, client, file), store: &stoppedStore{Store: p.store}}
	var err error
	if s.spool, err = generations.OpenSpool(t.TempDir(), p.store.String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.spool.Close() })
	s.store.stopped.Store(true)
	s.shipper = generations.NewShipper(s.store, s.spool, generations.ShipperOptions{Interval: time.Millisecond})
	t.Cleanup(func() { s.shipper.Close() })
	if s.writer, err = s.shipper.Database(client, file); err != nil {
		t.Fatal(err)
	}
	txn, changed := s.change(t, "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
	err = s.writer.Begin(wal.Base{
		Mark: wal.Mark{Txn: txn, PageSize: s.pageSize},
		Pages: func(yield func(wal.Page, error) bool) {
			for _, no := range changed {
				if !yield(wal.Page{Pgno: no, Data: s.page(no)}, nil) {
					return
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// commit appends a transaction; it is saved by refresh.
func (s *spooled) commit(t *testing.T, query string) wal.TxnInfo {
	t.Helper()
	txn, changed := s.change(t, query)
	full := &wal.Txn{TxnInfo: txn, PageSize: s.pageSize, Source: bytes.NewReader(s.image)}
	for _, no := range changed {
		full.Frames = append(full.Frames, wal.Frame{Pgno: no, Off: int64(no-1) * int64(s.pageSize), Sum: wal.PageSum(no, s.page(no))})
	}
	s.writer.Append(full)
	return txn
}

func (s *spooled) refresh(string) (bool, error) { return true, s.writer.Save() }

func (s *spooled) mount(t *testing.T) *mounted {
	return s.past.mount(t, func(o *Options) {
		o.Store, o.Spool, o.Refresh = s.store, s.spool, s.refresh
	})
}

// ship lets everything into the store.
func (s *spooled) ship(t *testing.T) {
	t.Helper()
	s.store.stopped.Store(false)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.shipper.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if left, err := s.spool.List(s.client); err != nil || len(left) > 0 {
		t.Fatalf("left in the spool: %v, %v", left, err)
	}
}

// Beside a live mount, what is committed is there at once, shipped or not, and
// shipping takes nothing away from those who read it.
func TestBesideALiveMount(t *testing.T) {
	s := newPast(t).spooled(t, "c1", "db.sqlite")
	m := s.mount(t)
	if got := output(t, "ls", m.Dir()); got != "README.txt\nc1" {
		t.Errorf("the root lists %q", got)
	}
	for i := range 5 {
		txn := s.commit(t, fmt.Sprintf("INSERT INTO orders VALUES (%d, 'item')", i))
		got, err := os.ReadFile(m.path("c1/latest/db.sqlite"))
		if err != nil || !bytes.Equal(got, s.readOnly(txn.ID)) {
			t.Fatalf("latest is not transaction %d right after its commit (%v)", txn.ID, err)
		}
	}
	// The kernel knows this path; its pieces are about to go.
	if _, err := os.Stat(m.path("c1/@3/db.sqlite")); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(m.path("c1/@4/db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	s.ship(t)
	if got, err := io.ReadAll(open); err != nil || !bytes.Equal(got, s.readOnly(4)) {
		t.Errorf("a file that was open when its pieces were shipped: %v", err)
	}
	for id := wal.TXID(1); id <= 6; id++ {
		got, err := os.ReadFile(m.path("c1", "@"+id.String(), "db.sqlite"))
		if err != nil || !bytes.Equal(got, s.readOnly(id)) {
			t.Errorf("transaction %d after shipping: %v", id, err)
		}
	}
	if m.log.String() != "" {
		t.Errorf("logged:\n%s", m.log)
	}
}

// What the mount itself commits and ships is found without asking the store for
// it, also when the store is down.
func TestOwnCommitsNeedNoStore(t *testing.T) {
	s := newPast(t).spooled(t, "c1", "db.sqlite")
	m := s.mount(t)
	latest := func(txn wal.TxnInfo) {
		t.Helper()
		for _, name := range []string{"latest", "@" + txn.ID.String(), txn.Time.String()} {
			got, err := os.ReadFile(m.path("c1", name, "db.sqlite"))
			if err != nil || !bytes.Equal(got, s.readOnly(txn.ID)) {
				t.Fatalf("%s is not transaction %d (%v)", name, txn.ID, err)
			}
		}
	}
	latest(s.commit(t, "INSERT INTO orders VALUES (1, 'item')"))
	s.ship(t)
	latest(s.txns[len(s.txns)-1])
	s.past.store.Reset()
	for i := range 10 {
		latest(s.commit(t, fmt.Sprintf("INSERT INTO orders(item) VALUES ('item %d')", i)))
		s.ship(t)
		latest(s.txns[len(s.txns)-1])
	}
	if c := s.past.store.Total(); c.Lists > 0 || c.Dirs > 0 {
		t.Errorf("the store was asked for %d lists and %d directories", c.Lists, c.Dirs)
	}
	s.store.stopped.Store(true)
	down := func(context.Context) error { return errors.New("the store is down") }
	s.store.gate.Store(&down)
	latest(s.commit(t, "DELETE FROM orders"))
}

// Readers, commits and shipping go on at the same time; every read is of one
// transaction, and of one not older than the newest when it began.
func TestReadersWhileShipping(t *testing.T) {
	s := newPast(t).spooled(t, "c1", "db.sqlite")
	s.store.stopped.Store(false)
	m := s.mount(t)
	var mu sync.Mutex
	images := map[string]wal.TXID{string(s.readOnly(1)): 1}
	newest := wal.TXID(1)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 0))
			for {
				select {
				case <-done:
					return
				default:
				}
				mu.Lock()
				least, most := newest, wal.TXID(1<<60)
				mu.Unlock()
				name := "latest"
				if r.IntN(2) == 0 {
					least = 1 + wal.TXID(r.Uint64N(uint64(least)))
					most = least
					name = "@" + least.String()
				}
				b, err := os.ReadFile(m.path("c1", name, "db.sqlite"))
				mu.Lock()
				id := images[string(b)]
				mu.Unlock()
				if err != nil || id < least || id > most {
					t.Errorf("%s: transaction %d, want %d to %d (%v)", name, id, least, most, err)
					return
				}
			}
		})
	}
	for i := range 60 {
		mu.Lock()
		txn := s.commit(t, fmt.Sprintf("INSERT INTO orders VALUES (%d, 'item %d')", i, i))
		images[string(s.readOnly(txn.ID))] = txn.ID
		newest = txn.ID
		mu.Unlock()
	}
	close(done)
	readers.Wait()
}

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
