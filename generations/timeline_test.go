package generations_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

const modelPage = 512

// model is a client's history as plain values, and the objects made of it.
type model struct {
	rng   *rand.Rand
	store *memory
	spool string
	gens  []*modelGen
	time  wal.Time
}

type modelGen struct {
	id     generations.ID
	parent *generations.Parent
	fuzzy  bool
	base   wal.TXID   // of the first snapshot, 0 with a parent
	txns   []modelTxn // ascending; the first is the base, if there is one
}

type modelTxn struct {
	wal.TxnInfo
	content [][]byte
	changed []int // indexes into content
}

// views returns the transactions of g that have a view.
func (g *modelGen) views() []modelTxn {
	if g.fuzzy {
		return g.txns[1:]
	}
	return g.txns
}

func (m *model) page() []byte {
	p := make([]byte, modelPage)
	for i := range 8 {
		p[i] = byte(m.rng.Uint32())
	}
	return p
}

// txn appends to g a transaction that leaves content.
func (m *model) txn(g *modelGen, id wal.TXID, content [][]byte, changed []int) {
	m.time += 1 + wal.Time(m.rng.IntN(3))
	info := wal.TxnInfo{ID: id, Time: m.time, Size: wal.Pgno(len(content)), Pages: wal.Pgno(len(changed))}
	for i, p := range content {
		info.Checksum ^= wal.PageSum(wal.Pgno(i+1), p)
	}
	g.txns = append(g.txns, modelTxn{info, slices.Clone(content), changed})
}

// grow appends n transactions. Behind a fuzzy image the first one changes every
// page.
func (m *model) grow(g *modelGen, content [][]byte, after wal.TXID, n int) {
	for i := range n {
		content = slices.Clone(content)
		whole := i == 0 && g.fuzzy
		if m.rng.IntN(4) == 0 && !whole {
			if len(content) > 1 && m.rng.IntN(2) == 0 {
				content = content[:len(content)-1]
			} else {
				content = append(content, nil)
			}
		}
		var changed []int
		for j := range content {
			if content[j] == nil || whole || m.rng.IntN(3) == 0 || j == len(content)-1 && changed == nil {
				content[j] = m.page()
				changed = append(changed, j)
			}
		}
		m.txn(g, after+wal.TXID(i)+1, content, changed)
	}
}

// put makes an object of g and stores it, or puts it in the spool. last is that
// of the transactions in it, also where the name does not tell.
func (m *model) put(t *rapid.T, g *modelGen, o generations.Object, last wal.TXID) {
	o.Client, o.Generation = client, g.id
	var b []byte
	if o.Kind == generations.ManifestObject {
		b = generations.Manifest{Format: 1, File: "db.sqlite", PageSize: modelPage, Created: g.txns[0].Time, Parent: g.parent, Writer: "w"}.Encode()
	} else {
		b = m.pack(t, g, o, g.txns[o.First-g.txns[0].ID:last-g.txns[0].ID+1])
	}
	if o.Kind != generations.PieceObject {
		m.store.objects[o.Key()] = b
		m.date(o)
		return
	}
	path := filepath.Join(m.spool, "objects", filepath.FromSlash(o.Key()))
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// date has the store tell when o was put: about when it was, or anything, or nothing.
// What the past was does not depend on it.
func (m *model) date(o generations.Object) {
	if m.store.dates == nil {
		m.store.dates = make(map[string]time.Time)
	}
	switch at := m.time + wal.Time(m.rng.IntN(6)-2); m.rng.IntN(8) {
	case 0:
	case 1:
		m.store.dates[o.Key()] = wal.Time(m.rng.Int64N(2*int64(m.time) + 1)).Std()
	default:
		m.store.dates[o.Key()] = at.Std()
	}
}

// pack encodes the transactions of run.
func (m *model) pack(t *rapid.T, g *modelGen, o generations.Object, run []modelTxn) []byte {
	var b bytes.Buffer
	fuzzy := o.Kind == generations.SnapshotObject && g.fuzzy && o.First == g.base
	kind := pack.Segment
	if o.Kind == generations.SnapshotObject {
		kind = pack.Snapshot
	}
	w := pack.NewWriter(&b, kind, modelPage, o.Place(), pack.WriterOptions{Fuzzy: fuzzy})
	infos := make([]wal.TxnInfo, len(run))
	for i := range run {
		infos[i] = run[i].TxnInfo
	}
	if fuzzy {
		infos[0].Checksum = 0
	}
	for page := range 64 {
		for _, txn := range run {
			if page < len(txn.content) && (kind == pack.Snapshot || slices.Contains(txn.changed, page)) {
				if err := w.Add(wal.Pgno(page+1), txn.ID, txn.content[page]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if _, err := w.Finish(infos, wal.Mark{Txn: infos[len(infos)-1], PageSize: modelPage}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// generation adds one to the history, with its objects, in the order in which
// they would be put; between is called between them. It may go on from any
// transaction of any generation before it. With local, some of it is in the spool.
func (m *model) generation(t *rapid.T, local bool, between func()) {
	g := &modelGen{id: generations.ID(len(m.gens)+1) << 12}
	content := [][]byte{m.page(), m.page()}
	after := wal.TXID(1)
	var parent *modelGen
	if n := len(m.gens); n > 0 && rapid.Bool().Draw(t, "fork") {
		parent = m.gens[rapid.IntRange(0, n-1).Draw(t, "parent")]
	}
	if parent != nil && len(parent.views()) > 0 {
		at := rapid.SampledFrom(parent.views()).Draw(t, "fork at")
		after, content = at.ID, at.content
		g.parent = &generations.Parent{Generation: parent.id, Txn: after}
	} else {
		g.base, g.fuzzy = 1, rapid.Bool().Draw(t, "fuzzy")
		m.txn(g, 1, content, nil)
	}
	least := 0
	if g.fuzzy || g.parent != nil {
		least = 1
	}
	n := rapid.IntRange(least, 12).Draw(t, "commits")
	m.grow(g, content, after, n)
	m.gens = append(m.gens, g)

	m.put(t, g, generations.Object{Kind: generations.ManifestObject}, 0)
	between()
	if g.base != 0 {
		m.put(t, g, generations.Object{Kind: generations.SnapshotObject, First: g.base}, g.base)
		between()
	}
	m.segments(t, g, after+1, after+wal.TXID(n), local, between)
}

// segments puts the transactions first to last of g: as segments made of
// pieces, some of them merged too, the end perhaps as pieces only, and snapshots
// in between.
func (m *model) segments(t *rapid.T, g *modelGen, first, last wal.TXID, local bool, between func()) {
	var pieces []generations.Object
	for next := first; next <= last; next = pieces[len(pieces)-1].Last + 1 {
		end := next + wal.TXID(rapid.IntRange(0, int(min(last-next, 2))).Draw(t, "piece"))
		pieces = append(pieces, generations.Object{Kind: generations.PieceObject, First: next, Last: end})
	}
	shipped, kept := len(pieces), len(pieces)
	if local {
		shipped = rapid.IntRange(0, len(pieces)).Draw(t, "shipped")
		kept = rapid.IntRange(0, shipped).Draw(t, "kept") // these and those behind are not removed yet
	}
	var bounds []wal.TXID // where segments begin
	for i := 0; i < shipped; {
		n := rapid.IntRange(1, shipped-i).Draw(t, "segment of pieces")
		begin, end := pieces[i].First, pieces[i+n-1].Last
		m.put(t, g, generations.Object{Kind: generations.SegmentObject, First: begin}, end)
		bounds = append(bounds, begin)
		between()
		if rapid.IntRange(0, 3).Draw(t, "snapshot") == 0 {
			m.put(t, g, generations.Object{Kind: generations.SnapshotObject, First: end}, end)
			between()
		}
		i += n
	}
	for _, o := range pieces[kept:] {
		m.put(t, g, o, o.Last)
	}
	if len(bounds) > 1 && rapid.Bool().Draw(t, "merge") {
		i := rapid.IntRange(0, len(bounds)-2).Draw(t, "merge from")
		j := rapid.IntRange(i+1, len(bounds)-1).Draw(t, "merge to")
		m.put(t, g, generations.Object{Kind: generations.SegmentObject, First: bounds[i], Last: bounds[j] - 1}, bounds[j]-1)
		between() // both the merged one and its parts are there
		if rapid.Bool().Draw(t, "tidy") {
			for _, b := range bounds[i:j] {
				delete(m.store.objects, generations.Object{Client: client, Generation: g.id, Kind: generations.SegmentObject, First: b}.Key())
			}
		}
	}
}

// at is what a time or an index means, in one generation or any: the rule, on
// plain values.
func (m *model) at(i generations.Instant, id wal.TXID, g generations.ID) (*modelGen, *modelTxn) {
	at, isTime := i.Time()
	for _, gen := range slices.Backward(m.gens) {
		views := gen.views()
		if g != 0 && gen.id != g || len(views) == 0 {
			continue
		}
		var found *modelTxn
		for k := range views {
			if isTime && views[k].Time <= at || !isTime && views[k].ID == id || i.IsLatest() {
				found = &views[k]
			}
		}
		if found != nil {
			return gen, found
		}
	}
	return nil, nil
}

func TestTimelineIsTheModel(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			rng: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), store: newMemory(), time: 1000,
		}
		var err error
		if m.spool, err = os.MkdirTemp(dir, ""); err != nil {
			t.Fatal(err)
		}
		sp, err := generations.OpenSpool(m.spool, testURL)
		if err != nil {
			t.Fatal(err)
		}
		defer sp.Close()
		p := packs{m.store, sp}
		var tl *generations.Timeline
		refresh := func() {
			if rapid.IntRange(0, 4).Draw(t, "refresh") > 0 {
				return
			}
			if tl == nil {
				tl, err = generations.OpenTimeline(context.Background(), client, m.store, sp, p)
			} else {
				err = tl.Refresh(context.Background())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		// What is not shipped is of the newest generations.
		n := rapid.IntRange(1, 5).Draw(t, "generations")
		local := rapid.IntRange(0, n-1).Draw(t, "first with pieces")
		for i := range n {
			m.generation(t, i >= local, refresh)
		}
		whole, err := generations.OpenTimeline(context.Background(), client, m.store, sp, p)
		if err != nil {
			t.Fatal(err)
		}
		if tl != nil {
			if err := tl.Refresh(context.Background()); err != nil {
				t.Fatal(err)
			}
			m.compare(t, tl, p)
		}
		m.compare(t, whole, p)
		m.compareAll(t, whole, p)
	})
}

// compareAll makes sure that every transaction of every generation reads back.
func (m *model) compareAll(t *rapid.T, tl *generations.Timeline, p packs) {
	for _, g := range m.gens {
		for _, want := range g.views() {
			plan, err := tl.At(context.Background(), generations.AtTXID(want.ID).In(g.id), m.time)
			if err != nil || plan.Txn != want.TxnInfo {
				t.Fatalf("%d of %s is %+v, %v", want.ID, g.id, plan.Txn, err)
			}
			got, err := p.read(context.Background(), plan)
			if err != nil || !bytes.Equal(got, bytes.Join(want.content, nil)) {
				t.Fatalf("%d of %s shows other bytes, %v: %s", want.ID, g.id, err, plan)
			}
		}
	}
}

// compare asks tl for instants and compares the answers with the rule's.
func (m *model) compare(t *rapid.T, tl *generations.Timeline, p packs) {
	gens := []generations.ID{0}
	for _, g := range m.gens {
		gens = append(gens, g.id)
	}
	for range 12 {
		var i generations.Instant
		id := wal.TXID(rapid.IntRange(1, 40).Draw(t, "index"))
		switch rapid.IntRange(0, 4).Draw(t, "by") {
		case 0:
			i = generations.Latest()
		case 1, 2:
			i = generations.AtTXID(id)
		default:
			i = generations.AtTime(wal.Time(rapid.Int64Range(999, int64(m.time)).Draw(t, "time")))
		}
		g := rapid.SampledFrom(gens).Draw(t, "in")
		if g != 0 {
			i = i.In(g)
		}
		gen, want := m.at(i, id, g)
		plan, err := tl.At(context.Background(), i, m.time)
		if want == nil {
			if !errors.Is(err, generations.ErrNoInstant) || !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("%s in %s is %v, %v; want none", i, g, plan, err)
			}
			continue
		}
		if err != nil || plan.Txn != want.TxnInfo || plan.Generation != gen.id || plan.File != "db.sqlite" {
			t.Fatalf("%s in %s is %+v of %s, %v; want %+v of %s", i, g, plan.Txn, plan.Generation, err, want.TxnInfo, gen.id)
		}
		got, err := p.read(context.Background(), plan)
		if err != nil || !bytes.Equal(got, bytes.Join(want.content, nil)) {
			t.Fatalf("%s shows other bytes, %v: %s", i, err, plan)
		}
	}
	if _, err := tl.At(context.Background(), generations.AtTime(m.time+1), m.time); !errors.Is(err, generations.ErrNoInstant) {
		t.Fatalf("the future: %v", err)
	}
	if _, err := tl.At(context.Background(), generations.Latest().In(9), m.time); !errors.Is(err, generations.ErrNoGeneration) {
		t.Fatalf("an unknown generation: %v", err)
	}
	m.compareLogs(t, tl)
}

// compareLogs compares the logs of all generations with the model's.
func (m *model) compareLogs(t *rapid.T, tl *generations.Timeline) {
	var all []wal.TxnInfo
	for _, g := range m.gens {
		since := wal.Time(rapid.Int64Range(0, int64(m.time)).Draw(t, "since"))
		until := wal.Time(rapid.Int64Range(1, int64(m.time)).Draw(t, "until"))
		var want, got []wal.TxnInfo
		for _, v := range g.views() {
			all = append(all, v.TxnInfo)
			if v.Time >= since && v.Time <= until {
				want = append(want, v.TxnInfo)
			}
		}
		span, err := tl.Span(context.Background(), g.id, since, until)
		if err != nil {
			t.Fatal(err)
		}
		newest := rapid.Int64Range(1, 40).Draw(t, "newest")
		span, want = span.Newest(newest), want[max(0, len(want)-int(newest)):]
		backward := rapid.Bool().Draw(t, "backward")
		txns := tl.Txns(context.Background(), span)
		if backward {
			txns = tl.TxnsBackward(context.Background(), span)
			slices.Reverse(want)
		}
		for txn, err := range txns {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, txn)
		}
		if !slices.Equal(got, want) || span.Len() != int64(len(want)) {
			t.Fatalf("log of %s from %s to %s, the newest %d, backward %t, is %v, want %v", g.id, since, until, newest, backward, got, want)
		}
	}
	n := rapid.IntRange(0, 30).Draw(t, "recent")
	slices.Reverse(all)
	if got, err := tl.Recent(context.Background(), n); err != nil || !slices.Equal(got, all[:min(n, len(all))]) {
		t.Fatalf("the newest %d are %v, %v; want %v", n, got, err, all[:min(n, len(all))])
	}
}

// Whatever object is missing, no wrong answer is given: the instants that need
// it fail, naming what is missing, and the others are right.
func TestMissingObjects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{rng: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), store: newMemory(), time: 1000}
		for range rapid.IntRange(1, 3).Draw(t, "generations") {
			m.generation(t, false, func() {})
		}
		lost := rapid.SampledFrom(m.store.keys()).Draw(t, "lost")
		delete(m.store.objects, lost)
		p := packs{m.store, nil}
		tl, err := generations.OpenTimeline(context.Background(), client, m.store, nil, p)
		if errors.Is(err, generations.ErrNoClient) && len(m.store.objects) == 0 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range m.gens {
			for _, want := range g.views() {
				plan, err := tl.At(context.Background(), generations.AtTXID(want.ID).In(g.id), m.time)
				if errors.Is(err, generations.ErrIncomplete) || errors.Is(err, generations.ErrNoInstant) || errors.Is(err, generations.ErrNoGeneration) {
					continue
				}
				if err != nil || plan.Txn != want.TxnInfo {
					t.Fatalf("without %s, %d is %+v, %v", lost, want.ID, plan.Txn, err)
				}
				got, err := p.read(context.Background(), plan)
				if err != nil || !bytes.Equal(got, bytes.Join(want.content, nil)) {
					t.Fatalf("without %s, %d shows other bytes, %v: %s", lost, want.ID, err, plan)
				}
			}
		}
	})
}
