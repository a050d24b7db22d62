package generations

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/walback/walback/wal"
)

// listing is what a client has, in the store and in the spool, as of one
// Refresh. It is never changed: a refresh makes a new one.
type listing struct {
	generations []*shelf // ascending
	lastKey     string   // greatest key the store has listed
	lastImage   string   // greatest key of a snapshot of the newest stored generation
	newest      ID       // newest stored generation, 0: none
}

// shelf is one generation of a listing.
type shelf struct {
	id       ID
	manifest *PlanObject
	images   []PlanObject // snapshots, ascending
	stored   []PlanObject // segments in the store, in key order
	pieces   []PlanObject // in the spool, ascending
	made     []PlanObject // snapshots and segments that prunings have made
	newest   *PlanObject  // the edition that counts; nil: nothing was pruned
	edition  *Edition     // the same, read
	cover    []PlanObject // segments and pieces to read: ascending, First differing, see cover
}

// find returns the shelf of g, or nil.
func (l *listing) find(g ID) *shelf {
	i, ok := slices.BinarySearchFunc(l.generations, g, func(s *shelf, g ID) int { return cmp.Compare(s.id, g) })
	if !ok {
		return nil
	}
	return l.generations[i]
}

// shows reports whether a transaction of s is known to have a view if it is there.
// The first ones may have none yet.
func (s *shelf) shows(id wal.TXID) bool {
	if s.edition != nil {
		return s.keeps(id)
	}
	return len(s.images) > 0 && id > s.images[0].First
}

// draft is a listing being made.
type draft struct {
	listing
	shelves map[ID]*shelf
	touched map[ID]bool
}

// revise begins a draft with what l knows of the store.
func (l *listing) revise() *draft {
	d := &draft{listing: *l, shelves: make(map[ID]*shelf), touched: make(map[ID]bool)}
	for _, s := range l.generations {
		d.shelves[s.id] = s
	}
	return d
}

// edit returns the shelf of g for changing.
func (d *draft) edit(g ID) *shelf {
	s := d.shelves[g]
	if s != nil && d.touched[g] {
		return s
	}
	fresh := &shelf{id: g}
	if s != nil {
		*fresh = *s
		// What is shared with the listing before must not be written to.
		fresh.images, fresh.stored, fresh.made = slices.Clone(s.images), slices.Clip(s.stored), slices.Clip(s.made)
	}
	d.shelves[g], d.touched[g] = fresh, true
	return fresh
}

// addStored adds an object of the store that is not known yet.
func (d *draft) addStored(o PlanObject) {
	s := d.edit(o.Generation)
	switch {
	case o.Kind == ManifestObject:
		s.manifest = &o
	case o.Kind == EditionObject:
		if s.newest == nil || s.newest.First < o.First {
			s.newest, s.edition = &o, nil
		}
	case o.Pruning != 0:
		s.made = append(s.made, o)
	case o.Kind == SnapshotObject:
		s.images = append(s.images, o)
	case o.Kind == SegmentObject:
		s.stored = append(s.stored, o)
	}
	key := o.Key()
	d.lastKey = max(d.lastKey, key)
	if o.Generation > d.newest {
		d.newest, d.lastImage = o.Generation, ""
	}
	if o.Kind == SnapshotObject && o.Generation == d.newest {
		d.lastImage = max(d.lastImage, key)
	}
}

// setLocal replaces what is known of the spool.
func (d *draft) setLocal(objects []PlanObject) {
	local := make(map[ID][]PlanObject)
	for _, o := range objects {
		local[o.Generation] = append(local[o.Generation], o)
	}
	for id, s := range d.shelves {
		if have := local[id]; d.touched[id] || !slices.Equal(s.local(), have) {
			d.edit(id).setLocal(have)
		}
		delete(local, id)
	}
	for id, have := range local {
		d.edit(id).setLocal(have)
	}
}

// local returns the objects of s that are in the spool, in key order.
func (s *shelf) local() []PlanObject {
	var all []PlanObject
	if s.manifest != nil && s.manifest.Local {
		all = append(all, *s.manifest)
	}
	for _, o := range s.images {
		if o.Local {
			all = append(all, o)
		}
	}
	return append(all, s.pieces...)
}

// setLocal replaces the objects of s that are in the spool. What the store has
// as well is read from there.
func (s *shelf) setLocal(objects []PlanObject) {
	if s.manifest != nil && s.manifest.Local {
		s.manifest = nil
	}
	s.images = slices.DeleteFunc(s.images, func(o PlanObject) bool { return o.Local })
	s.pieces = nil
	for _, o := range objects {
		switch o.Kind {
		case ManifestObject:
			if s.manifest == nil {
				s.manifest = &o
			}
		case SnapshotObject:
			if !slices.ContainsFunc(s.images, func(have PlanObject) bool { return have.First == o.First }) {
				s.images = append(s.images, o)
			}
		case PieceObject:
			s.pieces = append(s.pieces, o)
		}
	}
}

// done returns the listing that d has become.
func (d *draft) done() *listing {
	for id := range d.touched {
		s := d.shelves[id]
		if s.edition != nil {
			s.images = s.revisedImages()
		}
		slices.SortFunc(s.images, func(a, b PlanObject) int { return cmp.Compare(a.First, b.First) })
		if !slices.IsSortedFunc(s.stored, inKeyOrder) { // they may have been put in another order
			s.stored = slices.SortedFunc(slices.Values(s.stored), inKeyOrder)
		}
		if s.edition != nil {
			s.cover, s.stored = s.revisedCover()
		} else {
			s.stored = cover(s.stored, nil) // the others have become part of these
			s.cover = cover(s.stored, s.pieces)
		}
		if s.manifest == nil && s.newest == nil && len(s.images) == 0 && len(s.cover) == 0 {
			delete(d.shelves, id)
		}
	}
	d.generations = slices.SortedFunc(maps.Values(d.shelves), func(a, b *shelf) int { return cmp.Compare(a.id, b.id) })
	l := d.listing
	return &l
}

// inKeyOrder compares segments of one generation by their keys, in which a range
// stands before a single number.
func inKeyOrder(a, b PlanObject) int {
	order := cmp.Compare(a.First, b.First)
	if order == 0 && a.Last != b.Last {
		order = cmp.Compare(a.Last-1, b.Last-1) // 0, which is no range, comes last
	}
	return order
}

// span is an object of a cover while it is being chosen. Transactions up to
// last are known to be in it: by its name, or because the next object begins
// behind them.
type span struct {
	PlanObject
	last wal.TXID
}

// cover chooses among overlapping segments and pieces, so that every
// transaction that is in any of them is read from one: the fewest objects, and
// those in the store rather than local ones. It goes by names; where one object
// is missing between others, the cover has a gap that shows when its objects
// are opened.
func cover(stored, pieces []PlanObject) []PlanObject {
	var chosen []PlanObject
	for _, s := range coverSpans(stored, pieces) {
		chosen = append(chosen, s.PlanObject)
	}
	return chosen
}

// coverSpans is cover, with the last transaction of each object as far as names
// tell.
func coverSpans(stored, pieces []PlanObject) []span {
	spans := make([]span, 0, len(stored)+len(pieces))
	for _, o := range slices.Concat(stored, pieces) {
		spans = append(spans, span{o, o.Last})
	}
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.First, b.First) })
	next := wal.MaxTXID + 1 // First of the objects behind
	for i := len(spans) - 1; i >= 0; i-- {
		switch {
		case spans[i].last != 0:
		case next > wal.MaxTXID: // its name alone tells no more than this
			spans[i].last = spans[i].First
		default:
			spans[i].last = next - 1
		}
		if i > 0 && spans[i-1].First < spans[i].First {
			next = spans[i].First
		}
	}
	var chosen []span
	for i, reached := 0, wal.TXID(0); i < len(spans); {
		// The object that reaches farthest of those that begin where we are; when
		// none does, of those that begin next.
		start := max(reached+1, spans[i].First)
		best := -1
		for ; i < len(spans) && spans[i].First <= start; i++ {
			if spans[i].last > reached && (best < 0 || spans[i].last > spans[best].last) {
				best = i
			}
		}
		if best >= 0 {
			chosen = append(chosen, spans[best])
			reached = spans[best].last
		}
	}
	return chosen
}

// list makes a listing of a client. Unless whole, the store is asked only for
// what is new since before, which editions are not. The spool is listed first:
// what it has lost by the time the store is listed is found there.
func list(ctx context.Context, client string, st Store, sp *Spool, before *listing, whole bool, read readEdition) (*listing, error) {
	if whole {
		before = &listing{}
	}
	var local []PlanObject
	if sp != nil {
		var err error
		if local, err = sp.List(client); err != nil {
			return nil, err
		}
	}
	d := before.revise()
	if before.newest != 0 { // its snapshots sort before its segments
		prefix := generationPrefix(client, before.newest) + snapshotDir + "/"
		if err := d.scan(ctx, client, st, prefix, before.lastImage); err != nil {
			return nil, err
		}
	}
	if err := d.scan(ctx, client, st, clientPrefix(client), d.forgetTail(client)); err != nil {
		return nil, err
	}
	d.setLocal(local)
	if err := d.readEditions(ctx, read); err != nil {
		return nil, err
	}
	return d.done(), nil
}

// relisted is how many segments are listed again at most, because some of them
// may have become part of others: what one request can list.
const relisted = 1000

// forgetTail forgets the segments of the newest generation that may be merged, if
// they are few, and returns the key behind which the store has to be listed.
func (d *draft) forgetTail(client string) (after string) {
	s := d.shelves[d.newest]
	if s == nil {
		return d.lastKey
	}
	n := 0
	for n < len(s.stored) && s.stored[n].Final() {
		n++
	}
	if tail := len(s.stored) - n; tail == 0 || tail > relisted {
		return d.lastKey
	}
	s = d.edit(d.newest)
	s.stored = s.stored[:n:n]
	if n == 0 {
		return generationPrefix(client, d.newest) + walDir + "/"
	}
	return s.stored[n-1].Key()
}

// listOwn makes a listing of a client that only this process writes, out of what
// it has put into the store since before; false when that is not known. The spool
// is listed first here too.
func listOwn(client string, sp *Spool, f *feed, before *listing) (*listing, bool, error) {
	local, err := sp.List(client)
	if err != nil {
		return nil, false, err
	}
	put, whole := sp.feeds.take(f)
	if !whole || slices.ContainsFunc(put, func(o PlanObject) bool { return o.Kind == EditionObject }) {
		return nil, false, nil
	}
	d := before.revise()
	for _, o := range put {
		if !d.has(o.Object) {
			d.addStored(o)
		}
	}
	d.setLocal(local)
	return d.done(), true, nil
}

// scan adds what the store lists under prefix behind after.
func (d *draft) scan(ctx context.Context, client string, st Store, prefix, after string) error {
	for e, err := range st.List(ctx, prefix, after) {
		if err != nil {
			return err
		}
		o, err := ParseKey(e.Key)
		if err != nil || o.Client != client || o.Kind == PieceObject {
			continue // not ours, or another client's whose name goes on here
		}
		if !d.has(o) {
			d.addStored(PlanObject{Object: o, Size: e.Size, Put: e.put()})
		}
	}
	return nil
}

// has reports whether the store's o is known: it can be listed twice when the
// newest generation has no segment yet.
func (d *draft) has(o Object) bool {
	s := d.shelves[o.Generation]
	if s == nil {
		return false
	}
	if o.Pruning != 0 || o.Kind == EditionObject {
		return slices.ContainsFunc(s.made, func(p PlanObject) bool { return p.Object == o }) || s.newest != nil && s.newest.First >= o.First && o.Kind == EditionObject
	}
	same := func(p PlanObject) bool { return p.Object == o && !p.Local }
	return s.manifest != nil && same(*s.manifest) || slices.ContainsFunc(s.images, same) ||
		len(s.stored) > 0 && strings.Compare(s.stored[len(s.stored)-1].Key(), o.Key()) >= 0 && slices.ContainsFunc(s.stored, same)
}
