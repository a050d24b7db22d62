package generations_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// snapshots returns what is sent to whenever a snapshot gets into the store.
func (m *memory) snapshots() <-chan struct{} {
	made := make(chan struct{}, 8)
	m.hook(nil, func(c call) error {
		if c.op == "put" && strings.HasSuffix(c.key, ".snap") {
			made <- struct{}{}
		}
		return nil
	})
	return made
}

// When segments have grown beyond 16 MiB, a snapshot of what has been shipped
// is made, and views begin with it.
func TestLaterSnapshots(t *testing.T) {
	m := newMemory()
	made := m.snapshots()
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(60, wal.MaxPageSize)
	d.noisy = true
	r.begin(w, d.base(true))
	<-made
	all := func(n int) []int {
		for len(d.pages) < n {
			d.pages = append(d.pages, nil)
		}
		changed := make([]int, n)
		for i := range changed {
			changed[i] = i
		}
		return changed
	}
	for range 5 { // 4 MiB each
		w.Append(d.write(all(64)))
		r.flush()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case <-made:
	case <-ctx.Done():
		t.Fatal("no snapshot was made")
	}
	w.Append(d.write([]int{0}))
	r.flush()
	tl, err := generations.OpenTimeline(ctx, client, m, nil, packs{m, nil})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := tl.At(ctx, generations.Latest(), d.last.Time)
	if err != nil || len(plan.Objects) > 3 || plan.Objects[len(plan.Objects)-1].First < 5 {
		t.Fatalf("plan %v, %v", plan, err)
	}
	gens, err := tl.Generations(ctx)
	if err != nil || gens[0].Snapshots != 2 {
		t.Fatalf("generations %+v, %v", gens, err)
	}
	wantHistory(t, m, nil, d.history)
	if n := m.count("put", ".snap"); n != 2 {
		t.Errorf("%d snapshots were put", n)
	}
}
