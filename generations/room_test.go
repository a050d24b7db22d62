package generations_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// unseen makes d commit n times without anybody capturing it.
func (d *database) unseen(n int) {
	history := d.history
	for range n {
		d.commit()
	}
	d.history = history
}

// difference is what a capture that begins again finds: the transaction that
// makes the database what it is out of what it was after the last one captured.
func (d *database) difference() *wal.Txn {
	last := d.history[len(d.history)-1]
	before := slices.Collect(slices.Chunk(last.content, d.pageSize))
	var changed []int
	for i, p := range d.pages {
		if i >= len(before) || !bytes.Equal(p, before[i]) {
			changed = append(changed, i)
		}
	}
	d.last.ID = last.ID
	return d.write(changed)
}

// saveUntilFull commits and saves until that fails, and returns how often it did
// not.
func saveUntilFull(t *testing.T, w *generations.Writer, d *database) int {
	t.Helper()
	for n := range 10_000 {
		history := d.history
		w.Append(d.commit())
		err := w.Save()
		if err == nil {
			continue
		}
		d.history = history
		if !errors.Is(err, generations.ErrSpoolFull) || !errors.Is(w.Err(), generations.ErrSpoolFull) {
			t.Fatalf("save %v, writer %v", err, w.Err())
		}
		return n
	}
	t.Fatal("the spool is never full")
	return 0
}

// wantRefusal makes sure that no generation can begin, and that nothing is read
// for it.
func wantRefusal(t *testing.T, w *generations.Writer, d *database) {
	t.Helper()
	read := func(func(wal.Page, error) bool) { t.Error("the database was read") }
	mark := wal.Mark{Txn: wal.TxnInfo{ID: 1, Time: d.last.Time, Size: 1}, PageSize: 512}
	for what, err := range map[string]error{
		"ready": w.Ready(),
		"begin": w.Begin(wal.Base{Mark: mark, Pages: read}),
		"fork":  w.Fork(2, &wal.Txn{Source: unreadable{}}),
	} {
		if !errors.Is(err, generations.ErrSpoolFull) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// While the store is down, the spool grows up to its limit. What is committed
// then is not recorded; when the store is up again capture goes on in a fork,
// and all but that is in the past.
func TestSpoolIsBounded(t *testing.T) {
	const limit = 64 << 10
	m := newMemory()
	r := newRoomyRig(t, m, t.TempDir(), time.Microsecond, limit)
	w, d := r.open(), newDatabase(110, 512)
	r.begin(w, d.base(false))
	r.flush()
	m.hook(putsFail, nil)
	saved := saveUntilFull(t, w, d)
	kept, err := r.spool.List(client)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, o := range kept {
		size += o.Size
	}
	if size < limit/2 || size > limit {
		t.Fatalf("%d transactions take %d bytes, the limit is %d", saved, size, limit)
	}
	wantRefusal(t, w, d)
	d.unseen(1000)
	if st := r.shipper.Status()[0]; !errors.Is(st.Err, errDown) && !errors.Is(st.Err, generations.ErrSpoolFull) || st.Queued != saved {
		t.Fatalf("status %+v", st)
	}

	m.hook(nil, nil)
	if told := wait(t, r.room); told != client || w.Ready() != nil {
		t.Fatalf("told of %s, ready: %v", told, w.Ready())
	}
	past := resume(t, w)
	if n := len(past.States); !past.Ended || n == 0 || past.States[n-1] != past.Mark.Txn || past.Mark.Txn != d.history[len(d.history)-1].TxnInfo {
		t.Fatalf("past %+v", past)
	}
	d.forking = true
	if err := w.Fork(past.Mark.Txn.ID, d.difference()); err != nil {
		t.Fatal(err)
	}
	r.workload(w, d, 10)
	r.flush()
	wantHistory(t, m, nil, d.history)
	if n := m.count("put", "generation.json"); n != 2 {
		t.Errorf("%d generations", n)
	}
	if st := r.shipper.Status()[0]; st.Err != nil || st.Queued != 0 {
		t.Errorf("status %+v", st)
	}
}

// The limit is that of all databases together, also of what an earlier process
// has left. Those that have not reached it go on.
func TestSpoolIsShared(t *testing.T) {
	const limit = 64 << 10
	m, dir := newMemory(), t.TempDir()
	r := newRoomyRig(t, m, dir, time.Microsecond, limit)
	w, d := r.open(), newDatabase(111, 512)
	r.begin(w, d.base(false))
	r.flush()
	m.hook(putsFail, nil)
	alone := saveUntilFull(t, w, d)
	r.close()

	r = newRoomyRig(t, m, dir, time.Microsecond, limit+limit/4)
	w = r.open()
	other, err := r.shipper.Database("other", "db.sqlite")
	if err != nil {
		t.Fatal(err)
	}
	d2 := newDatabase(112, 512)
	r.begin(other, d2.base(false)) // does not count
	w.Append(d.difference())       // this one may save what fits
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	if n := saveUntilFull(t, other, d2); n == 0 || n > alone/2 {
		t.Fatalf("%d transactions beside %d", n, alone)
	}
	saveUntilFull(t, w, d)
	m.hook(nil, nil)
	told := []string{wait(t, r.room), wait(t, r.room)}
	slices.Sort(told)
	if !slices.Equal(told, []string{client, "other"}) {
		t.Fatalf("told of %v", told)
	}
	r.flush()
	wantHistory(t, m, nil, d.history)
}

// A transaction that is larger than the limit is captured all the same.
func TestTransactionAboveTheLimit(t *testing.T) {
	m := newMemory()
	r := newRoomyRig(t, m, t.TempDir(), time.Hour, 16<<10)
	w, d := r.open(), newDatabase(115, 512)
	r.begin(w, d.base(false))
	all := make([]int, 100)
	for i := range all {
		all[i] = i
	}
	d.pages = append(d.pages, make([][]byte, 97)...)
	w.Append(d.write(all))
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	r.flush()
	wantHistory(t, m, nil, d.history)
}

// An image that is not shipped counts once another generation follows: otherwise
// a database that begins anew again and again would fill the disk.
func TestImagesAreBounded(t *testing.T) {
	const limit = 256 << 10
	m := newMemory()
	m.hook(putsFail, nil)
	r := newRoomyRig(t, m, t.TempDir(), time.Microsecond, limit)
	w, d := r.open(), newDatabase(113, 4096)
	for len(d.pages) < 100 {
		d.pages = append(d.pages, d.page())
	}
	n := 0
	for ; w.Ready() == nil; n++ {
		r.begin(w, d.base(false))
		w.Append(d.commit())
		if err := w.Save(); err != nil && !errors.Is(err, generations.ErrSpoolFull) {
			t.Fatal(err)
		}
		if n == 10 {
			t.Fatal("eleven images wait")
		}
	}
	if n < 2 {
		t.Fatalf("%d images wait", n)
	}
	wantRefusal(t, w, d)
}

// A disk without space ends capture like a full spool, leaves nothing half
// written, and is no matter any more when there is space again.
func TestNoSpaceForPieces(t *testing.T) {
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=755")
	if errors.Is(err, unix.EPERM) {
		t.Skip("only root can mount a small filesystem")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	m := newMemory()
	r := newRig(t, m, dir, time.Hour)
	w, d := r.open(), newDatabase(114, 512)
	r.begin(w, d.base(false))
	r.flush()
	filler := filepath.Join(dir, "filler")
	fill := func(leave int64) {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filler, make([]byte, int64(st.Bfree)*st.Bsize-leave), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill(60 << 10)
	saveUntilFull(t, w, d)
	left, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil || len(left) > 0 {
		t.Fatalf("left over: %v, %v", left, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := w.Ready(); err != nil {
		t.Fatal(err)
	}
	d.unseen(3)
	d.forking = true
	if err := w.Fork(resume(t, w).Mark.Txn.ID, d.difference()); err != nil {
		t.Fatal(err)
	}
	r.flush()
	wantHistory(t, m, nil, d.history)
}
