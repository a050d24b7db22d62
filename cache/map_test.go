package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// withMap puts a map of h's transaction into the store and plans by it.
func (h *history) withMap(t *testing.T) {
	t.Helper()
	v, err := newCache(t, h.store, Options{}).View(t.Context(), h.plan)
	if err != nil {
		t.Fatal(err)
	}
	o := generations.Object{Client: "c1", Generation: h.plan.Generation, Kind: generations.SnapshotObject, First: h.plan.Txn.ID}
	var b bytes.Buffer
	if _, err := snapshot.WriteMap(&b, o.Place(), v, func(pack.Place) bool { return true }); err != nil {
		t.Fatal(err)
	}
	h.store.set(o.Key(), b.Bytes())
	h.plan.Objects = []generations.PlanObject{{Object: o, Size: int64(b.Len())}}
}

// A page is found through a map by its end, a leaf and a group; what has been
// fetched for one view serves another, by whatever map.
func TestMapCostsFewRequests(t *testing.T) {
	h := newHistory(t, 9*pack.LeafPages)
	before := h.plan
	h.withMap(t)
	c := newCache(t, h.store, Options{Dir: t.TempDir()})
	if size := h.plan.Objects[0].Size; size < mapTail/2 || size > 20*mapTail {
		t.Fatalf("the map has %d bytes", size)
	}
	for _, p := range []wal.Pgno{1, 2, 5 * pack.LeafPages, 9 * pack.LeafPages} {
		was := c.Stats()
		h.check(t, c, p)
		now := c.Stats()
		if gets, n := now.Gets-was.Gets, now.Bytes-was.Bytes; gets > 3 || n > 200<<10 {
			t.Errorf("page %d: %d bytes in %d GETs", p, n, gets)
		}
	}
	was := c.Stats()
	h.check(t, c, 1, 5*pack.LeafPages)
	h.plan = before
	v, err := c.View(t.Context(), h.plan)
	if err != nil {
		t.Fatal(err)
	}
	opened := c.Stats()
	if opened.Gets-was.Gets > 2 { // the ends of the two
		t.Errorf("%d GETs for what is here", opened.Gets-was.Gets)
	}
	if err := v.ReadPage(1, make([]byte, pageSize)); err != nil {
		t.Fatal(err)
	}
	if n := c.Stats().Gets - opened.Gets; n > 1 { // an index block; the group is here
		t.Errorf("%d GETs for a page that another view has read", n)
	}
}

// What is wrong with an object that a map refers to is said of that object; what
// is kept of it is not believed before it has been fetched anew.
func TestMapOverDamage(t *testing.T) {
	h := newHistory(t, 3*pack.LeafPages)
	h.withMap(t)
	image := fmt.Sprintf("c1/generations/%s/snapshot/0000000001.snap", h.plan.Generation)
	c := newCache(t, h.store, Options{})
	h.check(t, c, 1)

	whole := h.store.objects[image]
	damaged := bytes.Clone(whole)
	for i := 16; i < len(damaged); i += 1000 {
		damaged[i] ^= 1
	}
	h.store.set(image, damaged)
	c = newCache(t, h.store, Options{})
	v, err := c.View(t.Context(), h.plan)
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, pageSize)
	err = v.ReadPage(1000, page)
	if !errors.Is(err, pack.ErrCorrupt) || !strings.Contains(err.Error(), "snapshot/0000000001.snap") {
		t.Errorf("a damaged group: %v", err)
	}
	h.store.set(image, whole)
	if err := v.ReadPage(1000, page); err != nil || !bytes.Equal(page, h.pages[1000]) {
		t.Errorf("when it is good again: %v, or it differs", err)
	}
	var out bytes.Buffer
	if n, err := v.WriteTo(&out); err != nil || n != v.Size() {
		t.Errorf("all of it: %d bytes, %v", n, err)
	}
	if err := h.store.Delete(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	c = newCache(t, h.store, Options{})
	if v, err = c.View(t.Context(), h.plan); err != nil {
		t.Fatal(err)
	}
	if err := v.ReadPage(1000, page); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without it: %v", err)
	}
}
