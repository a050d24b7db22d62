package history

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/storetest"
	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
)

// merged makes a history with all there can be: a snapshot, a final segment and a map
// of both, a merged segment, and small ones.
func (p *past) merged(t *testing.T) *database {
	t.Helper()
	d := p.database(t, "c1", "db.sqlite")
	d.keep = false
	d.commit(t, `CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE other (id INTEGER PRIMARY KEY, v BLOB);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 20000) INSERT INTO t SELECT i, hex(randomblob(100)) FROM n`)
	d.commit(t, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 36) INSERT INTO other SELECT i, randomblob(1000000) FROM n`)
	for i := range 24 {
		if i == 12 {
			c, err := cache.New(p.store, nil, cache.Options{})
			if err != nil {
				t.Fatal(err)
			}
			done, err := generations.NewCompaction(p.store, 0, c).Merge(t.Context(), d.client)
			if err != nil || len(done) != 1 || done[0].Maps != 1 || done[0].Merged == 0 {
				t.Fatalf("compacted %+v, %v", done, err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		d.commit(t, fmt.Sprintf("UPDATE t SET v = 'new %d' WHERE id %% 500 = %d", i+3, i))
	}
	p.date(t, d.client)
	return d
}

// date gives the objects of a client the times at which a mount would have put them.
func (p *past) date(t *testing.T, client string) {
	t.Helper()
	for e, err := range p.store.List(t.Context(), client+"/", "") {
		if err != nil {
			t.Fatal(err)
		}
		o, err := generations.ParseKey(e.Key)
		if err != nil {
			t.Fatal(err)
		}
		at := (began + second*wal.Time(max(o.First, o.Last, 1)-1)).Std()
		if err := os.Chtimes(p.file(e.Key), at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// Of a store that is far away, the first answer comes soon: what has to be known is
// asked for at once wherever that is possible.
func TestRoundTrips(t *testing.T) {
	p := newPast(t)
	p.merged(t)
	far := storetest.FarAway(p.store, 80*time.Millisecond)
	for _, at := range []int{2, 8, 15, 22} {
		instant := (began + second*wal.Time(at-1)).String()
		t.Run(fmt.Sprint("transaction ", at), func(t *testing.T) {
			m := p.mount(t, func(o *Options) { o.Store = far })
			p.store.Reset()
			far.Trips()
			f, err := os.Open(m.path("c1", instant, "db.sqlite"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close() // only read
			if _, err := f.ReadAt(make([]byte, 4096), 4096*5000); err != nil {
				t.Fatal(err)
			}
			cold := p.store.Reset()
			trips := far.Trips()
			t.Logf("a page: %d round trips, %+v", trips, cold)
			most := 6
			if at > 20 { // of the newest minutes, which are not merged yet
				most = 24
			}
			if trips > 4 || cold.Gets > most || cold.Read > 2<<20 {
				t.Errorf("a page took %d round trips, %+v", trips, cold)
			}
		})
		t.Run(fmt.Sprint("row of transaction ", at), func(t *testing.T) {
			m := p.mount(t, func(o *Options) { o.Store = far })
			p.store.Reset()
			far.Trips()
			id := 500*7 + at - 3
			want := fmt.Sprint("new ", at)
			if at == 2 {
				id, want = 3000, ""
			}
			got := sqlite(t, m.path("c1", instant, "db.sqlite"), fmt.Sprintf("SELECT v FROM t WHERE id = %d", id))
			if want != "" && got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			trips := far.Trips()
			t.Logf("a row: %d round trips, %+v", trips, p.store.Reset())
			if trips > 7 {
				t.Errorf("a row took %d round trips", trips)
			}
		})
	}
}

// A whole copy does not wait for one thing after the other either, nor fetches much
// that it does not need.
func TestCopyRoundTrips(t *testing.T) {
	p := newPast(t)
	d := p.merged(t)
	far := storetest.FarAway(p.store, 80*time.Millisecond)
	c, err := cache.New(far, nil, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() // nothing was written
	timeline, err := generations.OpenTimeline(t.Context(), d.client, far, nil, c)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := timeline.At(t.Context(), generations.AtTXID(22), wal.TimeOf(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	view, err := timeline.Open(t.Context(), plan, c.View)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close() // only read
	far.Trips()
	p.store.Reset()
	if err := view.CopyTo(t.Context(), io.Discard, snapshot.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	trips, asked := far.Trips(), p.store.Reset()
	stored := view.Stored()
	for page := range plan.Txn.Size {
		if err := stored.Add(page + 1); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d round trips, %+v, %d bytes of groups", trips, asked, stored.Bytes())
	if trips > 5 {
		t.Errorf("a copy took %d round trips", trips)
	}
	if most := stored.Bytes()*11/10 + 512<<10; asked.Read > most {
		t.Errorf("%d bytes were fetched for %d of groups", asked.Read, stored.Bytes())
	}
}

// Who reads all of a table does not wait for page after page.
func TestScanRoundTrips(t *testing.T) {
	p := newPast(t)
	p.merged(t)
	far := storetest.FarAway(p.store, 20*time.Millisecond)
	m := p.mount(t, func(o *Options) { o.Store = far })
	p.store.Reset()
	instant := (began + second*21).String()
	if got := sqlite(t, m.path("c1", instant, "db.sqlite"), "SELECT count(v) FROM t"); got != "20000" {
		t.Errorf("got %s", got)
	}
	trips, asked := far.Trips(), p.store.Reset()
	t.Logf("%d round trips, %+v", trips, asked)
	if trips > 20 { // and not one for each of 65 groups
		t.Errorf("a scan took %d round trips", trips)
	}
}
