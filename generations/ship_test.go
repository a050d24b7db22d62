package generations_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/dirstore"
	"github.com/walback/walback/wal"
)

// rig is a spool, a store and the shipper between them.
type rig struct {
	t       *testing.T
	store   generations.Store
	dir     string
	spool   *generations.Spool
	shipper *generations.Shipper
	broken  chan error
	room    chan string
}

const testURL = "memory:"

// newRig opens the spool in dir. An interval of a microsecond makes everything
// due at once.
func newRig(t *testing.T, s generations.Store, dir string, interval time.Duration) *rig {
	t.Helper()
	return newRoomyRig(t, s, dir, interval, 0)
}

// newRoomyRig is newRig with a limit for the spool.
func newRoomyRig(t *testing.T, s generations.Store, dir string, interval time.Duration, limit int64) *rig {
	t.Helper()
	return newRigWith(t, s, dir, generations.ShipperOptions{Interval: interval, SpoolLimit: limit})
}

// newRigWith is newRig with the given options.
func newRigWith(t *testing.T, s generations.Store, dir string, o generations.ShipperOptions) *rig {
	t.Helper()
	sp, err := generations.OpenSpool(dir, testURL)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, store: s, dir: dir, spool: sp, broken: make(chan error, 16), room: make(chan string, 16)}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(testLog{t}, nil))
	}
	if o.Packs == nil {
		o.Packs = packs{s, sp}
	}
	o.OnBroken = func(_ string, err error) { r.broken <- err }
	o.OnRoom = func(client string) { r.room <- client }
	r.shipper = generations.NewShipper(s, sp, o)
	t.Cleanup(r.close)
	return r
}

// testLog writes what is logged to the test's.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// close stops shipping as abruptly as can be without ending the process.
func (r *rig) close() {
	if r.shipper == nil {
		return
	}
	if err := errors.Join(r.shipper.Close(), r.spool.Close()); err != nil {
		r.t.Error(err)
	}
	r.shipper = nil
}

func (r *rig) open() *generations.Writer {
	r.t.Helper()
	w, err := r.shipper.Database(client, "db.sqlite")
	if err != nil {
		r.t.Fatal(err)
	}
	return w
}

func (r *rig) begin(w *generations.Writer, b wal.Base) {
	r.t.Helper()
	if err := w.Begin(b); err != nil {
		r.t.Fatal(err)
	}
}

// flush ships everything; a store that never takes it fails the test.
func (r *rig) flush() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	if err := r.shipper.Flush(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// workload appends n commits, saving and shipping at random points.
func (r *rig) workload(w *generations.Writer, d *database, n int) {
	r.t.Helper()
	for range n {
		w.Append(d.commit())
		switch d.rng.IntN(8) {
		case 0:
			if err := w.Save(); err != nil {
				r.t.Fatal(err)
			}
		case 1:
			r.flush()
		}
	}
}

func TestShippedHistoryIsWhatWasCommitted(t *testing.T) {
	stores := map[string]func(t *testing.T) generations.Store{
		"memory": func(*testing.T) generations.Store { return newMemory() },
		"directory": func(t *testing.T) generations.Store {
			s, err := dirstore.New(t.TempDir(), dirstore.Options{Create: true})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, open(t), t.TempDir(), time.Microsecond)
			w, d := r.open(), newDatabase(1, 512)
			for epoch := range 3 {
				r.begin(w, d.base(epoch == 1))
				r.workload(w, d, 25)
				if err := w.Save(); err != nil {
					t.Fatal(err)
				}
				wantHistory(t, r.store, r.spool, d.history) // beside a live mount, at whatever point shipping is
			}
			r.flush()
			wantHistory(t, r.store, nil, d.history)
			left, err := r.spool.List(client)
			if err != nil || len(left) > 0 {
				t.Fatalf("the spool still has %v, %v", left, err)
			}
			st := r.shipper.Status()
			if len(st) != 1 || st[0].Err != nil || st[0].Queued != 0 || st[0].Lag != 0 || st[0].Shipped != d.last || st[0].Committed != d.last {
				t.Fatalf("status %+v", st)
			}
		})
	}
}

func TestStoreDownThenUp(t *testing.T) {
	m := newMemory()
	m.hook(func(call) error { return errDown }, nil)
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(2, 512)
	r.begin(w, d.base(false))
	for range 10 {
		w.Append(d.commit())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := r.shipper.Flush(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "10 transactions") || !strings.Contains(err.Error(), "down") {
		t.Fatalf("flush into nothing: %v", err)
	}
	st := r.shipper.Status()[0]
	if !errors.Is(st.Err, errDown) || st.Queued != 10 || st.Bytes == 0 || st.Lag == 0 || w.Err() != nil {
		t.Fatalf("status %+v, writer %v", st, w.Err())
	}
	m.hook(nil, nil)
	r.flush()
	wantHistory(t, m, nil, d.history)
	if st := r.shipper.Status()[0]; st.Err != nil {
		t.Fatalf("still %v", st.Err)
	}
}

// The reply to every Put is lost, and the first request of each other kind
// fails.
func TestLostReplies(t *testing.T) {
	m := newMemory()
	seen := make(map[string]bool)
	m.hook(
		func(c call) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			first := !seen[c.op]
			seen[c.op] = true
			if first {
				return errDown
			}
			return nil
		},
		func(call) error { return errors.New("the reply was lost") })
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(3, 512)
	r.begin(w, d.base(false))
	for range 2 {
		w.Append(d.commit())
		w.Append(d.commit())
		r.flush()
	}
	m.hook(nil, nil)
	wantHistory(t, m, nil, d.history)
	if err := w.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestAnotherWriterFences(t *testing.T) {
	m := newMemory()
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(4, 512)
	r.begin(w, d.base(false))
	w.Append(d.commit())
	r.flush()

	// Another process that has a copy of everything goes on first.
	other := newRig(t, m, copyDir(t, r.dir), time.Microsecond)
	theirs := d.fork(5)
	ow := other.open()
	ow.Append(theirs.commit())
	other.flush()

	w.Append(d.commit())
	err := r.shipper.Flush(t.Context())
	if err == nil || !errors.Is(w.Err(), generations.ErrFenced) || !strings.Contains(err.Error(), "1 transactions") {
		t.Fatalf("flush %v, writer %v", err, w.Err())
	}
	if st := r.shipper.Status()[0]; !errors.Is(st.Err, generations.ErrFenced) {
		t.Fatalf("status %+v", st)
	}
	if err := w.Begin(d.base(false)); !errors.Is(err, generations.ErrFenced) {
		t.Fatalf("a fenced writer began a generation: %v", err)
	}
	if left, err := r.spool.List(client); err != nil || len(left) != 1 {
		t.Fatalf("the spool has %v, %v; want the piece", left, err)
	}
	wantHistory(t, m, nil, theirs.history)
}
