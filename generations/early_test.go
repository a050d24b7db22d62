package generations_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walback/walback/generations"
)

// What a busy database commits between two segments is saved before a gate makes
// the application wait for that, and not shipped before its time.
func TestSavedEarly(t *testing.T) {
	// Package pack pools its coders, which hold channels, and one made in the
	// bubble must not be used outside it: two collections empty a pool.
	defer func() { runtime.GC(); runtime.GC() }()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r := newRig(t, m, t.TempDir(), time.Hour)
		d := newDatabase(1, 65536)
		w := r.open()
		r.begin(w, d.base(false))
		time.Sleep(2 * time.Hour)
		w.Append(d.commit()) // isolated, so shipped at once
		synctest.Wait()
		shipped := len(m.keys())
		pieces := func() (n int) {
			t.Helper()
			synctest.Wait()
			found, err := r.spool.List(client)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range found {
				if o.Kind == generations.PieceObject {
					n++
				}
			}
			return n
		}
		if n := pieces(); n != 0 {
			t.Fatalf("%d pieces are left of what was shipped", n)
		}
		const enough = 1 << 20
		for range 3 {
			before, bytes := pieces(), 0
			for bytes < enough {
				if n := pieces(); n != before {
					t.Fatalf("%d pieces, %d before, when %d bytes are queued", n, before, bytes)
				}
				txn := d.commit()
				bytes += len(txn.Frames) * txn.PageSize
				w.Append(txn)
			}
			if n := pieces(); n != before+1 {
				t.Fatalf("%d pieces, %d before, when %d bytes are queued", n, before, bytes)
			}
		}
		if n := len(m.keys()); n != shipped {
			t.Errorf("%d objects in the store, %d before: shipped too early", n, shipped)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(m.keys()); n != shipped+1 {
			t.Errorf("%d objects in the store after the interval, %d before", n, shipped)
		}
		if n := pieces(); n != 0 {
			t.Errorf("%d pieces are left of what was shipped", n)
		}
		r.close()
	})
}
