package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// going is an object that is deleted after so many more reads.
type going struct {
	io.ReaderAt
	left atomic.Int64
}

func (g *going) ReadAt(p []byte, off int64) (int, error) {
	if g.left.Add(-1) < 0 {
		return 0, fmt.Errorf("reading it: %w", fs.ErrNotExist)
	}
	return g.ReaderAt.ReadAt(p, off)
}

// whose objects go, one after the other, each after n reads.
func (l *lineage) going(t *testing.T, at int, n *int64) *View {
	t.Helper()
	var packs []*pack.Reader
	for _, o := range []object{l.storeSegment(t, 1, len(l.txns)), l.storeSnapshot(t, 0)} {
		src := &going{ReaderAt: bytes.NewReader(o.bytes)}
		src.left.Store(1 << 40)
		r, err := pack.Open(src, int64(len(o.bytes)), o.place, pack.ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		src.left.Store(*n)
		packs = append(packs, r)
	}
	v, err := NewView(l.txns[at], l.pageSize, packs...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A view goes on when its objects go: a copy where it is, a read at once, however
// often that happens.
func TestObjectsGo(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	l := begin(r, 512, 20_000)
	l.commit(r, 20_000, 3000)
	for n := range 4 {
		reads := int64(1) << n
		renewed := 0
		v := l.going(t, 1, &reads)
		v.OnGone(func(context.Context) (*View, error) {
			renewed++
			reads *= 2 // otherwise it might never get on
			return l.going(t, 1, &reads), nil
		})
		var out bytes.Buffer
		err := v.CopyTo(t.Context(), &out, CopyOptions{})
		if err != nil || !bytes.Equal(out.Bytes(), l.images[1]) {
			t.Fatalf("copy, with objects that go after %d reads: %v, or it differs", reads, err)
		}
		if renewed == 0 && n < 3 {
			t.Fatal("no object has gone")
		}
		page := make([]byte, 512)
		for range 50 {
			p := r.IntN(20_000)
			if err := v.ReadPage(wal.Pgno(p+1), page); err != nil || !bytes.Equal(page, l.images[1][p*512:][:512]) {
				t.Fatalf("page %d: %v, or it differs", p+1, err)
			}
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if err := v.ReadPage(1, make([]byte, 512)); !errors.Is(err, fs.ErrClosed) {
			t.Fatalf("read of a closed view: %v", err)
		}
	}
}

// What has gone and does not come back is an error in the end, and so is what
// shows something else.
func TestObjectsStayAway(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	l := begin(r, 512, 2000)
	l.commit(r, 2000, 100)
	l.commit(r, 2000, 100)
	none := int64(0)
	for want, onGone := range map[string]func(context.Context) (*View, error){
		"file does not exist": nil,
		"no more":             func(context.Context) (*View, error) { return nil, errors.New("no more") },
		"reading it":          func(context.Context) (*View, error) { return l.going(t, 1, &none), nil },
		"its place is taken":  func(context.Context) (*View, error) { return l.view(t, 2, l.segment(t, 1, 3), l.snapshot(t, 0)), nil },
	} {
		v := l.going(t, 1, &none)
		v.OnGone(onGone)
		for _, err := range []error{v.CopyTo(t.Context(), io.Discard, CopyOptions{}), v.ReadPage(1, make([]byte, 512))} {
			if err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
				t.Errorf("%v, want %q", err, want)
			}
		}
	}
	refused := fmt.Errorf("writing: %w", fs.ErrNotExist)
	if err := l.view(t, 2, l.segment(t, 1, 3), l.snapshot(t, 0)).CopyTo(t.Context(), refuses{refused}, CopyOptions{}); !errors.Is(err, refused) {
		t.Errorf("a writer that fails: %v", err)
	}
}

type refuses struct{ error }

func (f refuses) Write([]byte) (int, error) { return 0, f.error }
