package main

import (
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/storetest"
)

// stall stands between a daemon and its store. While it is on, requests are not
// passed on, or have their effect and no answer.
type stall struct {
	http.Handler

	mu     sync.Mutex
	over   chan struct{} // closed when answers are given again; nil: they are
	silent bool          // what stalls is the answer
}

// ServeHTTP implements http.Handler.
func (s *stall) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	over, silent := s.over, s.silent
	s.mu.Unlock()
	if over == nil {
		s.Handler.ServeHTTP(w, r)
		return
	}
	answer := http.ResponseWriter(w)
	if silent {
		answer = httptest.NewRecorder() // nobody will read it
		s.Handler.ServeHTTP(answer, r)
	}
	select {
	case <-over:
	case <-r.Context().Done():
	}
	panic(http.ErrAbortHandler) // the connection breaks
}

func (s *stall) begin(silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over, s.silent = make(chan struct{}), silent
}

func (s *stall) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		close(s.over)
		s.over = nil
	}
}

// stalling returns a store that can be stalled.
func stalling(t *testing.T) (generations.URL, *stall) {
	t.Helper()
	gateway := storetest.Versitygw(t)
	to, err := url.Parse(gateway.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // the signature covers it
	}
	s := &stall{Handler: &httputil.ReverseProxy{Rewrite: rewrite, ErrorLog: log.New(t.Output(), "", 0)}}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		s.end()
		server.CloseClientConnections()
		server.Close()
	})
	u := gateway.URL("databases")
	u.Endpoint = server.URL
	return u, s
}

// TestKilledWhileStoreStalls kills the daemon when what was committed has nowhere
// to go, or has gone and nobody said so.
func TestKilledWhileStoreStalls(t *testing.T) {
	inModes(t, testKilledWhileStoreStalls)
}

func testKilledWhileStoreStalls(t *testing.T, m mode) {
	seed, rounds := newSeed(t), 4
	if testing.Short() {
		rounds = 1
	}
	random := rand.New(rand.NewPCG(seed, 0))
	store, s := stalling(t)
	w := newWorld(t, store, "-interval", "20ms")
	w.mode = m
	w.mount()
	app := suffer(w, "app.db", seed)
	app.until(opened)
	for range rounds {
		s.begin(random.IntN(2) == 0)
		app.killSometime(w, random)
		s.end() // a mount would wait for the store a while
		w.mount()
		app.until(opened)
		lookBack(w, app, random)
	}
	app.end()
	w.unmount()
	resumed, begun := w.lineages()
	t.Logf("%d kills, %d commits; a generation was continued %d times, and begun %d times", rounds, len(app.moments), resumed, begun)
	wholePast(w, app)
}

// TestMountedAgainWithoutStore: a directory that was mounted before is captured
// again though the store does not answer, so that nothing is committed to the
// plain files behind the capture's back.
func TestMountedAgainWithoutStore(t *testing.T) {
	store, s := stalling(t)
	w := newWorld(t, store)
	insert := func() {
		t.Helper()
		db := openAt(t, filepath.Join(w.dir, "app.db"))
		execute(t, db, "PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES (1)")
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w.mount()
	insert()
	w.unmount()
	before := w.log("app.db")
	s.begin(false)
	w.mount()
	insert()
	s.end()
	w.unmount()
	after := w.log("app.db")
	if len(after) <= len(before) || after[0] != before[0] {
		t.Errorf("%d transactions, %d before", len(after), len(before))
	}
	if resumed, begun := w.lineages(); resumed != 1 || begun != 1 {
		t.Errorf("a generation was continued %d times and begun %d times, want 1 and 1", resumed, begun)
	}
}
