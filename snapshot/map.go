package snapshot

import (
	"cmp"
	"io"
	"slices"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// What is fetched to restore a map is whole groups, and some of their pages may
// have newer versions elsewhere. When the groups of a leaf come to more than
// mostFetched of what is in use of them, the pages of those with the least in
// use are written anew, until it is no more than aimFetched.
const (
	mostFetched = 1.35
	aimFetched  = 1.25
)

// MapStats tells what a map has become.
type MapStats struct {
	Size    int64 // bytes
	Index   int64 // of them, those that are not pages
	Leaves  int   // of the map
	Kept    int   // those that are an earlier map's
	Written int64 // pages that were written into the map itself
}

// WriteMap writes a map of the view to w. It refers to those packs of the view that are lasting, and
// to what they refer to; the pages that lie in others are written into the map,
// and those that WriteMap finds scattered too widely. It reads indexes, and of
// pages only these. After an error, what was written is no pack.
func WriteMap(w io.Writer, place pack.Place, v *View, lasting func(pack.Place) bool) (MapStats, error) {
	m := &mapMaker{
		v: v, base: v.sources[len(v.sources)-1], page: make([]byte, v.pageSize), groups: make(map[groupID]*scattered),
	}
	for _, s := range v.sources {
		m.lasting = append(m.lasting, lasting(s.Place()))
	}
	if m.keeps() {
		m.kept = m.base.Reader
	}
	var err error
	if m.w, err = pack.NewMapWriter(w, place, v.at, v.pageSize, m.kept, pack.WriterOptions{}); err != nil {
		return MapStats{}, err
	}
	m.stats.Leaves = pack.LeafCount(v.at.Size)
	for n := range m.stats.Leaves {
		if err := m.leaf(n); err != nil {
			return MapStats{}, err
		}
	}
	m.stats.Size, err = m.w.Finish()
	m.stats.Index = m.stats.Size - m.w.Own()
	return m.stats, err
}

// mapMaker makes a map.
type mapMaker struct {
	v       *View
	base    source
	kept    *pack.Reader // base, when leaves of it may be kept
	lasting []bool       // of each source
	w       *pack.MapWriter
	stats   MapStats

	pages  [pack.LeafPages]mapped
	groups map[groupID]*scattered
	page   []byte
}

// mapped is where a page of the leaf being made lies.
type mapped struct {
	pack.Ref
	source int // counted from 1; 0: nowhere
}

// scattered is a group that pages of the leaf lie in.
type scattered struct {
	pack.LeafGroup
	id    groupID
	used  int // pages of it that the leaf has
	moved bool
	at    int16 // in the leaf, counted from 1; 0: not yet
}

// keeps reports whether leaves of the base can be kept: it is a map that stays,
// and none of it is hidden from the view.
func (m *mapMaker) keeps() bool {
	return m.base.Info().Kind == pack.Map && m.lasting[len(m.lasting)-1]
}

// leaf makes leaf n.
func (m *mapMaker) leaf(n int) error {
	first, last := pack.LeafSpan(n)
	if m.kept != nil {
		touched, err := m.touched(first, last)
		if err != nil {
			return err
		}
		if !touched {
			m.stats.Kept++
			return m.w.Keep()
		}
	}
	if err := m.choose(first, last); err != nil {
		return err
	}
	if err := m.place(); err != nil {
		return err
	}
	return m.write(first)
}

// touched reports whether a leaf of the view may differ from that of the base.
func (m *mapMaker) touched(first, last wal.Pgno) (bool, error) {
	before := m.base.Info().First.Size
	if first > before {
		return true, nil
	}
	for _, s := range m.v.sources[:len(m.v.sources)-1] {
		for ref, err := range s.Refs(first) {
			if err != nil || ref.Pgno <= last {
				return true, err
			}
			break
		}
	}
	cuts, err := m.v.cuts.get(m.v.findCuts)
	if err != nil {
		return false, err
	}
	had := min(last, before) // the last page of the leaf
	return slices.ContainsFunc(cuts, func(c cut) bool { return c.id > m.base.max && c.size < had }), nil
}

// choose finds where the pages of a leaf lie, and what is to be known of the
// groups they lie in.
func (m *mapMaker) choose(first, last wal.Pgno) error {
	m.pages = [pack.LeafPages]mapped{}
	clear(m.groups)
	for i, s := range m.v.sources {
		for ref, err := range s.Refs(first) {
			if err != nil {
				return err
			}
			if ref.Pgno > last {
				break
			}
			id := groupID{i, ref.Group}
			g := m.groups[id]
			if g == nil {
				lg, err := s.LeafGroup(ref.Group)
				if err != nil {
					return err
				}
				g = &scattered{LeafGroup: lg, id: id}
				m.groups[id] = g
			}
			if s.Info().Kind != pack.Map {
				g.Share++
			}
			// A newer pack's version stays; within a pack the later one is newer.
			if p := ref.Pgno - first; ref.TXID <= s.max && (m.pages[p].source == 0 || m.pages[p].source == i+1) {
				m.pages[p] = mapped{ref, i + 1}
			}
		}
	}
	for i := range m.pages {
		p := &m.pages[i]
		if p.source == 0 {
			continue
		}
		cut, err := m.v.isCut(p.Pgno, p.TXID)
		if err != nil {
			return err
		}
		if cut || p.Pgno > m.v.at.Size {
			*p = mapped{}
			continue
		}
		m.groups[groupID{p.source - 1, p.Group}].used++
	}
	return nil
}

// place decides which pages are written into the map itself.
func (m *mapMaker) place() error {
	var fetched, used float64 // bytes, of what is not moved
	var all []*scattered
	for id, g := range m.groups {
		if g.used == 0 {
			continue
		}
		if g.moved = !m.lasting[id.source]; g.moved {
			continue
		}
		page := float64(g.Stored) / float64(g.Count)
		fetched += page * float64(g.Share)
		used += page * float64(g.used)
		all = append(all, g)
	}
	if fetched <= mostFetched*used {
		return nil
	}
	slices.SortFunc(all, func(a, b *scattered) int {
		return cmp.Or(cmp.Compare(a.used*b.Share, b.used*a.Share), cmp.Compare(a.id.source, b.id.source), cmp.Compare(a.id.group, b.id.group))
	})
	for _, g := range all {
		if fetched <= aimFetched*used {
			break
		}
		g.moved = true
		fetched -= float64(g.Stored) / float64(g.Count) * float64(g.Share-g.used)
	}
	return nil
}

// write writes the leaf.
func (m *mapMaker) write(first wal.Pgno) error {
	var l pack.Leaf
	for i := range m.pages {
		p := &m.pages[i]
		if p.source == 0 {
			continue
		}
		s, g := m.v.sources[p.source-1], m.groups[groupID{p.source - 1, p.Group}]
		if g.moved {
			if err := s.Read(p.Ref, m.page); err != nil {
				return err
			}
			if err := m.w.Add(first+wal.Pgno(i), m.page); err != nil {
				return err
			}
			m.stats.Written++
			continue
		}
		if g.at == 0 {
			lg := g.LeafGroup
			if lg.Object == 0 {
				lg.Object = m.w.Object(s.Reader)
			}
			l.Groups = append(l.Groups, lg)
			g.at = int16(len(l.Groups))
		}
		l.Pages[i] = pack.LeafPage{Group: g.at, Slot: uint16(p.Slot), Sum: p.Sum}
	}
	return m.w.Leaf(&l)
}
