package snapshot

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/walback/walback/wal/pack"
)

// shelf is objects by their places, as a store has them.
type shelf map[pack.Place][]byte

func (s shelf) put(o object) object {
	s[o.place] = o.bytes
	return o
}

// open opens an object; what a map refers to is read from s.
func (s shelf) open(t testing.TB, o object) *pack.Reader {
	t.Helper()
	r, err := pack.Open(bytes.NewReader(o.bytes), int64(len(o.bytes)), o.place, pack.ReaderOptions{Elsewhere: s.elsewhere})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s shelf) elsewhere(place pack.Place, size int64) (io.ReaderAt, pack.Memory) {
	b := s[place]
	if int64(len(b)) != size {
		panic("there is no object of that size at " + place.Name)
	}
	return bytes.NewReader(b), nil
}

// storeMap returns a map of the database after txns[i] of l, made of packs.
func (l *lineage) storeMap(t fataler, i int, lasting func(pack.Place) bool, packs ...*pack.Reader) (object, MapStats) {
	t.Helper()
	v, err := NewView(l.txns[i], l.pageSize, packs...)
	if err != nil {
		t.Fatal(err)
	}
	place := pack.Place{Generation: generation, Name: "snapshot/" + l.txns[i].ID.String()}
	var b bytes.Buffer
	stats, err := WriteMap(&b, place, v, lasting)
	if err != nil {
		t.Fatal(err)
	}
	return object{place, b.Bytes()}, stats
}

func always(pack.Place) bool { return true }

// TestAnyMaps: maps made from any view, of any packs, whether these stay or not,
// show the database at their transaction and behind it.
func TestAnyMaps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 2))
		most := rapid.SampledFrom([]int{3, 900, 2100}).Draw(rt, "pages")
		l := begin(r, 512, r.IntN(most)+1)
		s := shelf{}
		base := s.open(t, s.put(l.storeSnapshot(t, 0)))
		segments := []*pack.Reader{} // behind base, newest first
		goes := map[pack.Place]bool{}
		for range rapid.IntRange(1, 5).Draw(rt, "segments") {
			from := len(l.txns)
			for range 1 + r.IntN(4) {
				size := int(l.txns[len(l.txns)-1].Size)
				if r.IntN(3) == 0 {
					size = 1 + r.IntN(most)
				}
				l.commit(r, size, r.IntN(most/4+3))
			}
			last := len(l.txns) - 1
			o := s.put(l.storeSegment(t, from, last+1))
			goes[o.place] = r.IntN(3) == 0
			segments = append([]*pack.Reader{s.open(t, o)}, segments...)
			check(rt, r, l.view(t, last, append(segments, base)...), l.images[last])
			if r.IntN(3) == 0 {
				continue
			}
			lasting := func(p pack.Place) bool { return !goes[p] }
			made, _ := l.storeMap(rt, last, lasting, append(segments, base)...)
			base = s.open(t, s.put(made))
			segments = nil
			for place, gone := range goes {
				if gone {
					delete(s, place) // a map that refers to it will be found out
				}
			}
			if err := base.Verify(); err != nil {
				rt.Fatal(err)
			}
			check(rt, r, l.view(t, last, base), l.images[last])
		}
	})
}
