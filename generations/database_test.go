package generations_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// database stands in for a live mount: it makes transactions of random pages
// and remembers what the whole database was after each.
type database struct {
	pageSize int
	noisy    bool
	rng      *rand.Rand
	pages    [][]byte
	last     wal.TxnInfo
	log      logBytes
	dir      string // of the spool, where a test needs it
	history  []instant
	forking  bool // the next commit is the first one of another generation
}

// instant is what a view must show.
type instant struct {
	wal.TxnInfo
	content []byte
	epoch   int // counts Begins and Forks
}

// logBytes is a log that others read while it grows.
type logBytes struct {
	mu sync.Mutex
	b  []byte
}

func (l *logBytes) ReadAt(p []byte, off int64) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.NewReader(l.b).ReadAt(p, off)
}

func newDatabase(seed uint64, pageSize int) *database {
	d := &database{pageSize: pageSize, rng: rand.New(rand.NewPCG(seed, 1))}
	for range 3 {
		d.pages = append(d.pages, d.page())
	}
	d.last = wal.TxnInfo{Time: wal.TimeOf(time.Date(2024, 1, 14, 15, 0, 0, 0, time.UTC))}
	return d
}

// fork returns a database with the same past and another future.
func (d *database) fork(seed uint64) *database {
	return &database{
		pageSize: d.pageSize, rng: rand.New(rand.NewPCG(seed, 1)),
		pages: slices.Clone(d.pages), last: d.last, history: slices.Clone(d.history),
		log: logBytes{b: slices.Clone(d.log.b)},
	}
}

// page returns a page of which half compresses, or none if d is noisy.
func (d *database) page() []byte {
	p := make([]byte, d.pageSize)
	random := p[:d.pageSize/2]
	if d.noisy {
		random = p
	}
	for len(random) > 0 {
		binary.NativeEndian.PutUint64(random, d.rng.Uint64())
		random = random[8:]
	}
	return p
}

func (d *database) checksum() (sum wal.Checksum) {
	for i, p := range d.pages {
		sum ^= wal.PageSum(wal.Pgno(i+1), p)
	}
	return sum
}

// advance makes the state as it is transaction id.
func (d *database) advance(id wal.TXID, pages int) {
	d.last = wal.TxnInfo{
		ID: id, Time: d.last.Time + 1 + wal.Time(d.rng.IntN(5000)),
		Size: wal.Pgno(len(d.pages)), Pages: wal.Pgno(pages), Checksum: d.checksum(),
	}
}

// base returns the image a generation begins with. A fuzzy one has a page that
// is of no state at all; the next commit must contain it, as page 1.
func (d *database) base(fuzzy bool) wal.Base {
	d.advance(1, len(d.pages))
	content := slices.Clone(d.pages)
	mark := wal.Mark{Txn: d.last, PageSize: d.pageSize}
	epoch := 0
	if n := len(d.history); n > 0 {
		epoch = d.history[n-1].epoch + 1
	}
	if fuzzy {
		mark.Txn.Checksum = 0
		content[0] = d.page()
	}
	d.remember(epoch, !fuzzy)
	return wal.Base{Mark: mark, Fuzzy: fuzzy, Pages: func(yield func(wal.Page, error) bool) {
		for i, p := range content {
			if !yield(wal.Page{Pgno: wal.Pgno(i + 1), Data: p}, nil) {
				return
			}
		}
	}}
}

// goBack makes d what transaction id of its newest epochs was, as a machine
// crash may. The next commit is the first of a fork, and later than all there
// was.
func (d *database) goBack(id wal.TXID) {
	for _, i := range slices.Backward(d.history) {
		if i.ID == id {
			d.pages = slices.Collect(slices.Chunk(bytes.Clone(i.content), d.pageSize))
			d.last.ID = id
			d.forking = true
			return
		}
	}
	panic(fmt.Sprintf("there is no transaction %d", id))
}

// remember notes the state; a fuzzy base has no content that could be looked at.
func (d *database) remember(epoch int, addressable bool) {
	i := instant{TxnInfo: d.last, epoch: epoch}
	if addressable {
		i.content = bytes.Join(d.pages, nil)
	}
	d.history = append(d.history, i)
}

// commit changes page 1 and some others.
func (d *database) commit() *wal.Txn {
	had := len(d.pages)
	if n := len(d.history); n > 0 && d.history[n-1].content == nil {
		had = 0 // behind a fuzzy image
	}
	switch d.rng.IntN(6) {
	case 0:
		d.pages = append(d.pages, d.page())
	case 1:
		if len(d.pages) > 2 {
			d.pages = d.pages[:len(d.pages)-1]
		}
	}
	changed := map[int]bool{0: true}
	for range d.rng.IntN(4) {
		changed[d.rng.IntN(len(d.pages))] = true
	}
	for i := had; i < len(d.pages); i++ {
		changed[i] = true
	}
	return d.write(slices.Sorted(maps.Keys(changed)))
}

// write commits new content of the given pages.
func (d *database) write(changed []int) *wal.Txn {
	var frames []wal.Frame
	d.log.mu.Lock()
	for _, i := range changed {
		d.pages[i] = d.page()
		frames = append(frames, wal.Frame{Pgno: wal.Pgno(i + 1), Off: int64(len(d.log.b)), Sum: wal.PageSum(wal.Pgno(i+1), d.pages[i])})
		d.log.b = append(d.log.b, d.pages[i]...)
	}
	end := wal.Position{Salt1: 1, Salt2: 2, Frames: uint32(len(d.log.b) / d.pageSize), PageSize: d.pageSize}
	d.log.mu.Unlock()
	d.advance(d.last.ID+1, len(frames))
	epoch := d.history[len(d.history)-1].epoch
	if d.forking {
		epoch++
	}
	d.forking = false
	d.remember(epoch, true)
	return &wal.Txn{TxnInfo: d.last, PageSize: d.pageSize, Frames: frames, Source: &d.log, End: end}
}

// packs opens objects without any cache.
type packs struct {
	store generations.Store
	spool *generations.Spool
}

func (p packs) OpenPack(ctx context.Context, o generations.PlanObject) (*pack.Reader, error) {
	var b []byte
	if o.Local {
		f, _, err := p.spool.Open(o.Key())
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if b, err = io.ReadAll(f); err != nil {
			return nil, err
		}
	} else {
		body, err := p.store.Get(ctx, o.Key(), 0, -1)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		if b, err = io.ReadAll(body); err != nil {
			return nil, err
		}
	}
	if int64(len(b)) != o.Size {
		return nil, fmt.Errorf("%s has %d bytes, listed %d", o.Key(), len(b), o.Size)
	}
	return pack.Open(bytes.NewReader(b), o.Size, o.Place(), pack.ReaderOptions{
		Elsewhere: func(place pack.Place, size int64) (io.ReaderAt, pack.Memory) {
			return wholeObject{p.store, generations.KeyAt(o.Client, place), size}, nil
		},
	})
}

// wholeObject reads an object of a store, that has a size, whole each time.
type wholeObject struct {
	store generations.Store
	key   string
	size  int64
}

func (o wholeObject) ReadAt(b []byte, off int64) (int, error) {
	body, err := o.store.Get(context.Background(), o.key, off, int64(len(b)))
	if err != nil {
		return 0, err
	}
	defer body.Close()
	if body.ObjectSize != o.size {
		return 0, fmt.Errorf("%s has %d bytes, a map says %d", o.key, body.ObjectSize, o.size)
	}
	return io.ReadFull(body, b)
}

// read returns the database that a plan makes up.
func (p packs) read(ctx context.Context, plan generations.Plan) ([]byte, error) {
	return readPlan(ctx, p, plan)
}

func readPlan(ctx context.Context, p generations.Opener, plan generations.Plan) ([]byte, error) {
	var opened []*pack.Reader
	for _, o := range plan.Objects {
		r, err := p.OpenPack(ctx, o)
		if err != nil {
			return nil, err
		}
		opened = append(opened, r)
	}
	v, err := snapshot.NewView(plan.Txn, plan.PageSize, opened...)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = v.WriteTo(&b)
	return b.Bytes(), errors.Join(err, v.Close())
}

const client = "eu/generations"

// wantHistory makes sure that every instant of history can be read by index and
// by time, from the store and (if not nil) the spool.
func wantHistory(t *testing.T, s generations.Store, sp *generations.Spool, history []instant) {
	t.Helper()
	ctx := t.Context()
	p := packs{s, sp}
	tl, err := generations.OpenTimeline(ctx, client, s, sp, p)
	if err != nil {
		t.Fatal(err)
	}
	gens, err := tl.Generations(ctx)
	if err != nil {
		t.Fatal(err)
	}
	now := history[len(history)-1].Time + 1
	for _, want := range history {
		if want.content == nil {
			continue
		}
		g := gens[want.epoch].ID
		for _, i := range []generations.Instant{generations.AtTXID(want.ID).In(g), generations.AtTime(want.Time), generations.AtTime(want.Time).In(g)} {
			err := tl.Use(ctx, i, now, func(plan generations.Plan) error {
				if plan.Txn != want.TxnInfo || plan.Generation != g {
					t.Fatalf("%s is transaction %+v of %s, want %+v of %s", i, plan.Txn, plan.Generation, want.TxnInfo, g)
				}
				got, err := p.read(ctx, plan)
				if err == nil && !bytes.Equal(got, want.content) {
					t.Fatalf("%s shows other bytes than were committed; plan %s", i, plan)
				}
				return err
			})
			if err != nil {
				t.Fatalf("%s in %s: %v", i, g, err)
			}
		}
	}
	wantOnce(t, tl, gens, history)
}

// wantOnce makes sure that the log has every transaction of history once.
func wantOnce(t *testing.T, tl *generations.Timeline, gens []generations.GenerationInfo, history []instant) {
	t.Helper()
	var got, want []wal.TxnInfo
	for _, g := range gens {
		for txn, err := range tl.Txns(t.Context(), g.Span()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, txn)
		}
	}
	for _, i := range history {
		if i.content != nil {
			want = append(want, i.TxnInfo)
		}
	}
	if !slices.Equal(got, want) {
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Fatalf("entry %d of the log is %v, want %v", i, got[i], want[i])
			}
		}
		t.Fatalf("the log has %d entries, want %d", len(got), len(want))
	}
	recent, err := tl.Recent(t.Context(), 5)
	slices.Reverse(recent)
	if err != nil || !slices.Equal(recent, want[max(0, len(want)-5):]) {
		t.Fatalf("recent %v, %v", recent, err)
	}
}
