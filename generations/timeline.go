package generations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/walback/walback/snapshot"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// Timeline knows what there is of one client, in the store and, beside a live
// mount, in the spool, and answers an instant with a plan. It knows names as of
// the last Refresh, and reads the ends of objects only where an answer needs
// them. It is safe for concurrent use.
type Timeline struct {
	client string
	store  Store
	spool  *Spool
	packs  Opener

	feed    *feed      // of what this process puts into the store; nil without a spool
	refresh sync.Mutex // held while listing
	listing atomic.Pointer[listing]

	infos   *lru.Cache[Object, pack.Info] // objects never change
	reached atomic.Int64                  // the latest time that is known of a transaction

	mu        sync.Mutex
	manifests map[ID]Manifest
	editions  map[Object]*Edition // those that counted when they were listed
}

// keptInfos is how many objects' roots a Timeline remembers.
const keptInfos = 4096

// OpenTimeline lists a client. spool is nil away from the live mount. The error
// matches ErrNoClient when there is nothing of it.
func OpenTimeline(ctx context.Context, client string, s Store, spool *Spool, packs Opener) (*Timeline, error) {
	if err := CheckClient(client); err != nil {
		return nil, tell(ErrNoClient, "%v", err)
	}
	infos, err := lru.New[Object, pack.Info](keptInfos)
	if err != nil {
		return nil, err
	}
	t := &Timeline{client: client, store: s, spool: spool, packs: packs, infos: infos, manifests: make(map[ID]Manifest), editions: make(map[Object]*Edition)}
	t.listing.Store(&listing{})
	if spool != nil {
		t.feed = spool.feeds.follow(client)
	}
	if err := t.Refresh(ctx); err != nil {
		t.Close()
		return nil, err
	}
	if len(t.listing.Load().generations) == 0 {
		t.Close()
		return nil, tell(ErrNoClient, "%s has no client %q", s, client)
	}
	return t, nil
}

// Close ends the use of t. Only one with a spool needs it.
func (t *Timeline) Close() {
	if t.feed != nil {
		t.spool.feeds.leave(t.client, t.feed)
	}
}

// Client returns the client's name.
func (t *Timeline) Client() string { return t.client }

// Refresh takes note of what is new: two listings of what comes behind what is
// known and final. What else has been removed is found out when a plan needs it.
func (t *Timeline) Refresh(ctx context.Context) error { return t.list(ctx, false) }

func (t *Timeline) list(ctx context.Context, whole bool) error {
	t.refresh.Lock()
	defer t.refresh.Unlock()
	if whole && t.feed != nil {
		// All of it will be listed, and what has gone again will not.
		t.spool.feeds.take(t.feed)
	}
	l, err := list(ctx, t.client, t.store, t.spool, t.listing.Load(), whole, t.readEdition)
	for n := 1; isVanished(err) && n < maxTries; n++ { // an edition that was followed by another
		l, err = list(ctx, t.client, t.store, t.spool, &listing{}, true, t.readEdition)
	}
	switch {
	case err == nil:
		t.listing.Store(l)
	case whole && t.feed != nil:
		t.spool.feeds.lose(t.feed)
	}
	return err
}

// RefreshOwn is Refresh for a client that only this process writes: what is new
// is in the spool, or has gone from there to the store, so the store is not
// asked unless that was too much to remember.
func (t *Timeline) RefreshOwn(ctx context.Context) error {
	t.refresh.Lock()
	l, whole, err := listOwn(t.client, t.spool, t.feed, t.listing.Load())
	if err == nil && whole {
		t.listing.Store(l)
	}
	t.refresh.Unlock()
	if err != nil || whole {
		return err
	}
	if err = t.list(ctx, true); err != nil {
		t.spool.feeds.lose(t.feed) // ask the store next time too
	}
	return err
}

// maxTries is how often a question is answered at most when objects vanish
// under the answer.
const maxTries = 5

// ask answers a question out of the current listing. When that turns out to be
// old, because an object of it has gone (a piece was shipped, objects were
// merged or pruned), everything is listed and the question asked again.
func (t *Timeline) ask(ctx context.Context, question func(lookup) error) error {
	for n := 1; ; n++ {
		err := question(lookup{t, t.listing.Load()})
		if !isVanished(err) && !errors.Is(err, ErrIncomplete) || n == maxTries {
			return err
		}
		if err := t.list(ctx, true); err != nil {
			return err
		}
	}
}

// Use plans i and calls do with the plan. When do fails because an object has
// gone since it was listed (the error matches fs.ErrNotExist), it is called
// again with a new plan of the same instant.
func (t *Timeline) Use(ctx context.Context, i Instant, now wal.Time, do func(Plan) error) error {
	return t.ask(ctx, func(l lookup) error {
		plan, err := l.at(ctx, i, now)
		if err != nil {
			return err
		}
		return do(plan)
	})
}

// Open opens the view that p shows, which need not have objects, by open. The view
// outlives them: when one has gone, because it was shipped, or merged into another,
// the same transaction is planned again, and the view goes on with that.
func (t *Timeline) Open(ctx context.Context, p Plan, open func(context.Context, Plan) (*snapshot.View, error)) (*snapshot.View, error) {
	view, err := t.open(ctx, p, open)
	if err != nil {
		return nil, err
	}
	view.OnGone(func(ctx context.Context) (*snapshot.View, error) {
		// What is open can be opened again though it has gone; its listing tells.
		if err := t.list(ctx, true); err != nil {
			return nil, err
		}
		return t.open(ctx, p, open)
	})
	return view, nil
}

// open is Open of a view that lasts as long as its objects.
func (t *Timeline) open(ctx context.Context, p Plan, open func(context.Context, Plan) (*snapshot.View, error)) (view *snapshot.View, err error) {
	err = t.Use(ctx, AtTXID(p.Txn.ID).In(p.Generation), p.Txn.Time, func(again Plan) (err error) {
		if again.View() != p.View() || again.Txn != p.Txn {
			return fmt.Errorf("%s: transaction %d of generation %s is not what it was when it was looked up", p.Client, p.Txn.ID, p.Generation)
		}
		view, err = open(ctx, again)
		return err
	})
	return view, err
}

// info returns what the root of an object tells.
func (t *Timeline) info(ctx context.Context, o PlanObject) (pack.Info, error) {
	if info, ok := t.infos.Get(o.Object); ok {
		return info, nil
	}
	r, err := t.packs.OpenPack(ctx, o)
	if err != nil {
		return pack.Info{}, fmt.Errorf("%s: %w", t.client, err)
	}
	info := r.Info()
	if err := checkName(o.Object, info); err != nil {
		return pack.Info{}, fmt.Errorf("%s: %w", t.client, err)
	}
	t.infos.Add(o.Object, info)
	for last := int64(info.Last.Time); ; {
		if known := t.reached.Load(); last <= known || t.reached.CompareAndSwap(known, last) {
			return info, nil
		}
	}
}

// Settled reports whether it is known, without asking anybody, that no transaction
// to come can be the one that a time means: one at or behind it has been seen.
func (t *Timeline) Settled(at wal.Time) bool { return t.reached.Load() >= int64(at) }

// checkName compares what an object's root tells with its name.
func checkName(o Object, info pack.Info) error {
	first := info.First.ID
	if (info.Kind == pack.Segment) == (o.Kind == SnapshotObject) || first != o.First || o.Last != 0 && o.Last != info.Last.ID {
		return &pack.CorruptError{Place: o.Place(), What: fmt.Sprintf("the object holds transactions %d to %d", first, info.Last.ID)}
	}
	return nil
}

// txns returns the transactions of a segment or piece, ascending.
func (t *Timeline) txns(ctx context.Context, o PlanObject) ([]wal.TxnInfo, error) {
	r, err := t.packs.OpenPack(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.client, err)
	}
	txns, err := r.Txns()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.client, err)
	}
	return txns, nil
}

// txn returns a transaction of a segment or piece, false when it does not have the
// one that find looks for.
func (t *Timeline) txn(ctx context.Context, o PlanObject, find func(*pack.Reader) (wal.TxnInfo, bool, error)) (wal.TxnInfo, bool, error) {
	r, err := t.packs.OpenPack(ctx, o)
	var txn wal.TxnInfo
	var ok bool
	if err == nil {
		txn, ok, err = find(r)
	}
	if err != nil {
		return wal.TxnInfo{}, false, fmt.Errorf("%s: %w", t.client, err)
	}
	return txn, ok, nil
}

// maxManifest bounds how much of a generation.json is read, in bytes.
const maxManifest = 1 << 20

// manifest returns the manifest of a generation.
func (t *Timeline) manifest(ctx context.Context, s *shelf) (Manifest, error) {
	t.mu.Lock()
	m, ok := t.manifests[s.id]
	t.mu.Unlock()
	if ok {
		return m, nil
	}
	if s.manifest == nil {
		return m, tell(ErrIncomplete, "%s: generation %s has no %s", t.client, s.id, manifestName)
	}
	b, err := t.readManifest(ctx, *s.manifest)
	if err == nil {
		m, err = ParseManifest(b)
	}
	if err != nil {
		return m, fmt.Errorf("%s: generation %s: %w", t.client, s.id, err)
	}
	t.mu.Lock()
	t.manifests[s.id] = m
	t.mu.Unlock()
	return m, nil
}

func (t *Timeline) readManifest(ctx context.Context, o PlanObject) ([]byte, error) {
	var body io.ReadCloser
	if o.Local {
		f, _, err := t.spool.Open(o.Key())
		if err != nil {
			return nil, err
		}
		body = f
	} else {
		b, err := t.store.Get(ctx, o.Key(), 0, maxManifest)
		if err != nil {
			return nil, err
		}
		body = b
	}
	b, err := io.ReadAll(io.LimitReader(body, maxManifest))
	return b, errors.Join(err, body.Close())
}
