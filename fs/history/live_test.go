package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

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
			for reads := 0; ; reads++ {
				select {
				case <-done:
					if reads >= 10 {
						return
					}
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
