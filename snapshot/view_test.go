package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// fataler is what a test and a property have in common.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// TestAnyView: any history, cut into any packs, shows every transaction as it
// was. The database grows, shrinks, and grows over pages it had before.
func TestAnyView(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		most := rapid.SampledFrom([]int{1, 10, 40}).Draw(rt, "pages")
		l := begin(r, 1<<rapid.IntRange(9, 13).Draw(rt, "log2 page size"), r.IntN(most)+1)
		for range rapid.IntRange(0, 15).Draw(rt, "transactions") {
			size := int(l.txns[len(l.txns)-1].Size)
			if r.IntN(3) == 0 {
				size = 1 + r.IntN(most)
			}
			l.commit(r, size, r.IntN(6))
		}
		at := rapid.IntRange(0, len(l.txns)-1).Draw(rt, "at")
		base := rapid.IntRange(0, at).Draw(rt, "snapshot")
		packs := []*pack.Reader{l.snapshot(t, base)}
		for i := base; i < at; {
			// The oldest segment may begin before the snapshot, the newest may
			// end behind the view.
			from := i + 1
			if i == base {
				from = rapid.IntRange(min(1, i+1), i+1).Draw(rt, "from")
			}
			to := rapid.IntRange(i+1, len(l.txns)-1).Draw(rt, "to")
			packs = append(packs, l.segment(t, max(from, 1), to+1))
			i = to
		}
		slices.Reverse(packs)
		check(rt, r, l.view(t, at, packs...), l.images[at])
	})
}

// TestFork: a lineage that left another is laid over it, and nothing the other
// did afterwards shows.
func TestFork(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	old := begin(r, 512, 20)
	for range 30 {
		old.commit(r, 10+r.IntN(20), 5)
	}
	fork := old.fork(12)
	for range 8 {
		fork.commit(r, 10+r.IntN(20), 5)
	}
	base, all := old.snapshot(t, 3), old.segment(t, 2, len(old.txns))
	for i := 12; i < len(fork.txns); i++ {
		check(t, r, fork.view(t, i, fork.segment(t, 12, len(fork.txns)), all, base), fork.images[i])
	}
}

// TestManyPacks: many small segments, which are searched together, and
// big ones among them.
func TestManyPacks(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	l := begin(r, 512, 8000)
	packs := []*pack.Reader{l.snapshot(t, 0)}
	for i := range 60 {
		n := 3
		if i%30 == 20 {
			n = 15_000
		}
		l.commit(r, 8000-i, n)
		packs = append(packs, l.segment(t, i+1, i+2))
	}
	slices.Reverse(packs)
	v := l.view(t, 60, packs...)
	if n := len(v.layers); n < 4 || n > 10 {
		t.Errorf("%d packs make %d layers", len(packs), n)
	}
	check(t, r, v, l.images[60])
}

// opened is a Sealer that counts how often each block is opened.
type opened struct {
	pack.Checksummed
	mu    sync.Mutex
	times map[string]int
}

func (o *opened) Open(sealed []byte, place pack.Place, off int64) ([]byte, error) {
	o.mu.Lock()
	o.times[fmt.Sprint(place.Name, " at ", off)]++
	o.mu.Unlock()
	return o.Checksummed.Open(sealed, place, off)
}

// TestEachBlockOnce: a copy of everything decodes each block of any pack once,
// also a group whose pages lie far from each other.
func TestEachBlockOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	l := begin(r, 4096, 4500) // five windows
	objects := []object{l.storeSnapshot(t, 0)}
	for i := range 3 {
		l.commit(r, 4500, 30)
		objects = append(objects, l.storeSegment(t, i+1, i+2))
	}
	slices.Reverse(objects)
	for name, copyTo := range map[string]func(v *View) error{
		"WriteTo": func(v *View) error { return second(v.WriteTo(io.Discard)) },
		"CopyTo":  func(v *View) error { return v.CopyTo(t.Context(), io.Discard, CopyOptions{}) },
	} {
		seal := &opened{times: map[string]int{}}
		var packs []*pack.Reader
		for _, o := range objects {
			p, err := o.open(seal)
			if err != nil {
				t.Fatal(err)
			}
			packs = append(packs, p)
		}
		if err := copyTo(l.view(t, 3, packs...)); err != nil {
			t.Fatal(err)
		}
		for block, n := range seal.times {
			if n > 1 {
				t.Errorf("%s decoded %s %d times", name, block, n)
			}
		}
		if len(seal.times) < 4500/16 {
			t.Errorf("%s decoded only %d blocks", name, len(seal.times))
		}
	}
}

// TestRefused: what does not make a view of the transaction is refused.
func TestRefused(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	l := begin(r, 512, 5)
	for range 9 {
		l.commit(r, 5, 2)
	}
	other := begin(r, 1024, 5)
	var b bytes.Buffer
	fuzzyTxn := l.txns[0]
	fuzzyTxn.Checksum = 0
	w := pack.NewWriter(&b, pack.Snapshot, 512, pack.Place{}, pack.WriterOptions{Fuzzy: true})
	if _, err := w.Finish([]wal.TxnInfo{fuzzyTxn}, wal.Mark{Txn: fuzzyTxn, PageSize: 512}); err != nil {
		t.Fatal(err)
	}
	fuzzy := object{pack.Place{}, b.Bytes()}.mustOpen(t)
	base := l.snapshot(t, 0)
	wrong := l.txns[5]
	wrong.Checksum++
	for _, c := range []struct {
		want  string
		at    wal.TxnInfo
		packs []*pack.Reader
	}{
		{"no packs", l.txns[0], nil},
		{"1024 bytes", l.txns[5], []*pack.Reader{l.segment(t, 1, 6), other.snapshot(t, 0)}},
		{"snapshot or map under", l.txns[5], []*pack.Reader{l.segment(t, 1, 6)}},
		{"snapshot or map under", l.txns[5], []*pack.Reader{l.snapshot(t, 5), base}},
		{"transactions 6 to 6 are missing", l.txns[5], []*pack.Reader{l.segment(t, 1, 5), base}},
		{"transactions 4 to 4 are missing", l.txns[5], []*pack.Reader{l.segment(t, 4, 6), l.segment(t, 1, 3), base}},
		{"transactions 2 to 2 are missing", l.txns[5], []*pack.Reader{l.segment(t, 2, 6), base}},
		{"of a later one", l.txns[3], []*pack.Reader{l.segment(t, 1, 6), l.snapshot(t, 5)}},
		{"nothing is to be seen", l.txns[3], []*pack.Reader{l.segment(t, 4, 6), l.segment(t, 1, 4), base}},
		{"none yet (fuzzy)", fuzzyTxn, []*pack.Reader{fuzzy}},
		{"tells otherwise", wrong, []*pack.Reader{l.segment(t, 1, 6), base}},
	} {
		if v, err := NewView(c.at, 512, c.packs...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want an error with %q, got %v %v", c.want, v, err)
		}
	}
}

// TestFuzzy: a base image read while the database was written shows nothing
// wrong under the transaction that has every page that changed meanwhile.
func TestFuzzy(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	l := begin(r, 512, 50)
	l.commit(r, 60, 30)
	// The image has some pages from before the commit and some from behind it.
	var b bytes.Buffer
	place := pack.Place{Generation: generation, Name: "snapshot/1"}
	w := pack.NewWriter(&b, pack.Snapshot, 512, place, pack.WriterOptions{Fuzzy: true})
	first := l.txns[0]
	first.Checksum = 0
	for p := range 50 {
		if err := w.Add(wal.Pgno(p+1), 1, l.images[r.IntN(2)][p*512:][:512]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish([]wal.TxnInfo{first}, wal.Mark{Txn: first, PageSize: 512}); err != nil {
		t.Fatal(err)
	}
	check(t, r, l.view(t, 1, l.segment(t, 1, 2), object{place, b.Bytes()}.mustOpen(t)), l.images[1])
}

// TestChecksum: pages that are intact one by one and make another database than
// was recorded are not passed off as it.
func TestChecksum(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	l := begin(r, 512, 50)
	l.commit(r, 50, 5)
	l.commit(r, 50, 5)
	l.txns[1].Checksum++
	v := l.view(t, 1, l.segment(t, 1, 3), l.snapshot(t, 0))
	for name, err := range map[string]error{
		"WriteTo": second(v.WriteTo(io.Discard)),
		"CopyTo":  v.CopyTo(t.Context(), io.Discard, CopyOptions{}),
	} {
		if !errors.Is(err, ErrChecksum) || !errors.Is(err, pack.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamage: whatever byte of whatever pack is damaged, every way to read
// either returns the database or says which object is corrupt.
func TestDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	l := begin(r, 512, 300)
	for range 9 {
		l.commit(r, 250+r.IntN(100), 40)
	}
	objects := []object{l.storeSegment(t, 5, 10), l.storeSegment(t, 1, 5), l.storeSnapshot(t, 0)}
	seen := 0
	for i := range objects {
		b := objects[i].bytes
		for at := r.IntN(100); at < len(b); at += 1 + r.IntN(800) {
			b[at] ^= 0x10
			seen += readDamaged(t, l, objects, objects[i].place)
			b[at] ^= 0x10
		}
	}
	if seen < 60 {
		t.Errorf("only %d errors", seen)
	}
}

// readDamaged reads the last transaction from objects, of which the one at place
// is damaged, and returns how many errors there were.
func readDamaged(t *testing.T, l *lineage, objects []object, place pack.Place) (errs int) {
	t.Helper()
	want := l.images[9]
	corrupt := func(err error) bool {
		if err == nil {
			return false
		}
		var c *pack.CorruptError
		if !errors.As(err, &c) || c.Place != place {
			t.Fatalf("damage of %s gives %v", place.Name, err)
		}
		errs++
		return true
	}
	var packs []*pack.Reader
	for _, o := range objects {
		p, err := o.open(nil)
		if corrupt(err) {
			return errs
		}
		packs = append(packs, p)
	}
	v := l.view(t, 9, packs...)
	page := make([]byte, 512)
	for p := wal.Pgno(0); p < l.txns[9].Size; p += 5 {
		if err := v.ReadPage(p+1, page); !corrupt(err) && !bytes.Equal(page, want[int(p)*512:][:512]) {
			t.Fatalf("%s damaged: page %d is wrong, and no error", place.Name, p+1)
		}
	}
	var out bytes.Buffer
	if _, err := v.WriteTo(&out); !corrupt(err) && !bytes.Equal(out.Bytes(), want) {
		t.Fatalf("%s damaged: WriteTo is wrong, and no error", place.Name)
	}
	return errs
}

// TestClose: what a view was made from is given back once, last first, and the
// view is of no use afterwards.
func TestClose(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	l := begin(r, 512, 5)
	v := l.view(t, 0, l.snapshot(t, 0))
	var order []int
	broken := errors.New("broken")
	v.OnClose(func() error { order = append(order, 1); return nil })
	v.OnClose(func() error { order = append(order, 2); return broken })
	if err := v.Close(); !errors.Is(err, broken) || !slices.Equal(order, []int{2, 1}) {
		t.Errorf("Close: %v, in the order %v", err, order)
	}
	if err := v.Close(); err != nil || len(order) != 2 {
		t.Errorf("second Close: %v, %v", err, order)
	}
	for name, err := range map[string]error{
		"ReadPage": v.ReadPage(1, make([]byte, 512)),
		"ReadAt":   second(v.ReadAt(make([]byte, 5), 0)),
		"WriteTo":  second(v.WriteTo(io.Discard)),
		"CopyTo":   v.CopyTo(t.Context(), io.Discard, CopyOptions{}),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s of a closed view: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// full is a file with room for so many bytes.
type full struct{ room int }

func (f *full) Write(b []byte) (int, error) {
	if f.room -= len(b); f.room < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

// TestCopyErrors: a copy ends with the error of what it writes to, or of its
// context.
func TestCopyErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	l := begin(r, 4096, 3000)
	v := l.view(t, 0, l.snapshot(t, 0))
	if err := v.CopyTo(t.Context(), &full{room: 5 << 20}, CopyOptions{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("CopyTo what is too short: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := v.CopyTo(ctx, io.Discard, CopyOptions{Concurrency: 1, Progress: func(int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("CopyTo that is cancelled: %v", err)
	}
	pr, pw := io.Pipe()
	pr.CloseWithError(fs.ErrPermission)
	if n, err := v.WriteTo(pw); n != 0 || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("WriteTo what is closed: %d, %v", n, err)
	}
}

// TestReadOnly: two bytes of page 1 are changed, for any reader.
func TestReadOnly(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 11))
	l := begin(r, 512, 5)
	v := l.view(t, 0, l.snapshot(t, 0))
	want := bytes.Clone(l.images[0])
	want[18], want[19] = 1, 1
	ro := ReadOnly(v)
	for off := range 40 {
		for n := range 40 {
			b := make([]byte, n)
			if _, err := ro.ReadAt(b, int64(off)); err != nil || !bytes.Equal(b, want[off:off+n]) {
				t.Fatalf("%d bytes at %d: %x, %v; want %x", n, off, b, err, want[off:off+n])
			}
		}
	}
	whole := make([]byte, len(want))
	if _, err := ro.ReadAt(whole, 0); err != nil || !bytes.Equal(whole, want) {
		t.Fatal("more than two bytes differ", err)
	}
}

// TestConcurrent: a view is read by many at once.
func TestConcurrent(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 12))
	l := begin(r, 512, 200)
	packs := []*pack.Reader{l.snapshot(t, 0)}
	for i := range 9 {
		l.commit(r, 150+r.IntN(100), 20)
		packs = append(packs, l.segment(t, i+1, i+2))
	}
	slices.Reverse(packs)
	v := l.view(t, 9, packs...)
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			page := make([]byte, 512)
			for range 300 {
				p := 1 + r.IntN(int(v.Txn().Size))
				if err := v.ReadPage(wal.Pgno(p), page); err != nil || !bytes.Equal(page, l.images[9][(p-1)*512:][:512]) {
					t.Errorf("page %d: %v, or it differs", p, err)
				}
			}
			var out bytes.Buffer
			if _, err := v.WriteTo(&out); err != nil || !bytes.Equal(out.Bytes(), l.images[9]) {
				t.Errorf("WriteTo: %v, or it differs", err)
			}
		})
	}
	wg.Wait()
}
