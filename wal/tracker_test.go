package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// plain is a database for tests that do not care how it is made.
func plain(pageSize int) settings {
	return settings{pageSize: pageSize, connect: []string{"PRAGMA synchronous=OFF", "PRAGMA cache_size=4"}}
}

// commits returns what is found in a log from the tracker's position on.
func commits(t tester, tr *Tracker, log []byte) []Commit {
	t.Helper()
	var all []Commit
	if err := tr.Look(bytes.NewReader(log), func(c Commit) error { all = append(all, c); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

// replayed returns what a database file becomes by a log.
func replayed(t tester, file, log []byte, pageSize int) *replica {
	t.Helper()
	r := newReplica(t, file, pageSize)
	for _, c := range commits(t, NewTracker(Position{}), log) {
		r.apply(bytes.NewReader(log), c)
	}
	return r
}

// busyLog returns a database file and a log of n transactions for it, with
// spills and frames of a transaction that was rolled back behind the last one.
func busyLog(t tester, dir string, s settings, n int) (file, log []byte) {
	t.Helper()
	d := newDatabase(t, dir, s)
	defer d.close()
	file = d.file()
	for i := range n {
		d.exec("INSERT INTO t(v) VALUES(randomblob(100)), (randomblob(1000))")
		if i%4 == 0 {
			d.exec(`BEGIN; WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<40)
				INSERT INTO t(v) SELECT randomblob(400) FROM n;
				UPDATE t SET v=randomblob(300) WHERE id%3=0; DELETE FROM t WHERE id%2=0; COMMIT`)
		}
	}
	d.exec("BEGIN; UPDATE t SET v=randomblob(500); UPDATE t SET v=randomblob(800); ROLLBACK")
	return file, d.log()
}

// TestDamagedLogReadsAsSQLiteReadsIt damages logs in every way, and asks SQLite's
// recovery what is left of them.
func TestDamagedLogReadsAsSQLiteReadsIt(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, pageSize := range allPageSizes {
		t.Run(fmt.Sprint(pageSize), func(t *testing.T) {
			file, log := busyLog(t, t.TempDir(), plain(pageSize), 6)
			whole := len(commits(t, NewTracker(Position{}), log))
			for range 12 {
				b := bytes.Clone(log)
				switch at := rng.IntN(len(b)); rng.IntN(4) {
				case 0:
					b = b[:at]
				case 1:
					b[at] ^= 1 << rng.IntN(8)
				case 2:
					clear(b[at:min(len(b), at+4096)])
				case 3: // lost in the middle, as after a power failure
					copy(b[at:], b[min(len(b), at+512):])
				}
				r := replayed(t, file, b, pageSize)
				r.check(recovered(t, t.TempDir(), file, b))
			}
			r := replayed(t, file, log, pageSize)
			r.check(recovered(t, t.TempDir(), file, log))
			if whole != 9 { // the table, 6 inserts, 2 bulks
				t.Fatalf("%d commits in the log, want 9", whole)
			}
		})
	}
}

// otherOrder encodes a log again with the checksum in the other byte order.
func otherOrder(t tester, log []byte) []byte {
	t.Helper()
	h, err := ParseHeader(log)
	if err != nil {
		t.Fatal(err)
	}
	h.BigEndian = !h.BigEndian
	return seal(h, log)
}

// seal gives a log the header h and every whole frame of it a valid checksum.
func seal(h Header, log []byte) []byte {
	b := h.Append(nil)
	h.Sum = chain(h.BigEndian, [2]uint32{}, b[:HeaderSize-8])
	b = h.Append(nil)
	sum := h.Sum
	stride := FrameHeaderSize + h.PageSize
	for log = log[HeaderSize:]; len(log) >= stride; log = log[stride:] {
		f := DecodeFrameHeader(log)
		f.Salt1, f.Salt2 = h.Salt1, h.Salt2
		sum = chain(h.BigEndian, sum, log[:8])
		sum = chain(h.BigEndian, sum, log[FrameHeaderSize:stride])
		f.Sum = sum
		b = append(f.Append(b), log[FrameHeaderSize:stride]...)
	}
	return b
}

// SQLite reads logs in both byte orders and writes its own.
func TestByteOrders(t *testing.T) {
	for _, pageSize := range allPageSizes {
		d := newDatabase(t, t.TempDir(), plain(pageSize))
		file := d.file()
		d.exec("INSERT INTO t(v) VALUES('x'); INSERT INTO t(v) VALUES(randomblob(70000)); DELETE FROM t WHERE id=1")
		log, want := d.log(), d.content()
		d.close()
		other := otherOrder(t, log)
		if bytes.Equal(log, other) || !bytes.Equal(log, otherOrder(t, other)) {
			t.Fatalf("page size %d: encoding a log in the other byte order twice does not give it back", pageSize)
		}
		if got := recovered(t, t.TempDir(), file, other); !bytes.Equal(got, want) {
			t.Fatalf("page size %d: SQLite does not read the log in the other byte order", pageSize)
		}
		replayed(t, file, log, pageSize).check(want)
		replayed(t, file, other, pageSize).check(want)
	}
}

// Without powersafe overwrite SQLite repeats the commit frame up to the next
// sector. A look may come before, within and after the repetitions.
func TestPaddingIsNoTransaction(t *testing.T) {
	d := newDatabase(t, t.TempDir(), settings{pageSize: 512, dsn: "psow=0", connect: []string{"PRAGMA synchronous=FULL"}})
	defer d.close()
	for range 3 {
		d.exec("INSERT INTO t(v) VALUES('x')")
	}
	log := d.log()
	marks := 0
	stride := FrameHeaderSize + 512
	for b := log[HeaderSize:]; len(b) >= stride; b = b[stride:] {
		if DecodeFrameHeader(b).IsCommit() {
			marks++
		}
	}
	if got := len(commits(t, NewTracker(Position{}), log)); got != 4 || marks <= 4 {
		t.Fatalf("%d commits found in a log with %d commit marks, want 4 and more", got, marks)
	}
	tr, total := NewTracker(Position{}), 0
	for n := HeaderSize; n <= len(log); n += stride {
		total += len(commits(t, tr, log[:n]))
		tr = NewTracker(tr.Position())
	}
	if total != 4 {
		t.Fatalf("%d commits found frame by frame, want 4", total)
	}
	if end := tr.Position().Offset(); end != int64(len(log)) {
		t.Fatalf("position is at %d, the log ends at %d", end, len(log))
	}
}

// A log that was replaced must never be taken for the one that was followed.
func TestReplacedLogs(t *testing.T) {
	restart := func(d *database) {
		d.checkpoint("RESTART")
		d.exec("INSERT INTO t(v) VALUES('next epoch')")
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, d *database, tr *Tracker)
		want   int // commits, -1 for ErrMissed
	}{
		{"untouched", func(t *testing.T, d *database, tr *Tracker) {}, 0},
		{"restarted", func(t *testing.T, d *database, tr *Tracker) { restart(d) }, 1},
		{"restarted with the old tail unseen", func(t *testing.T, d *database, tr *Tracker) {
			d.exec("INSERT INTO t(v) VALUES('unseen')")
			restart(d)
		}, 2},
		{"restarted twice", func(t *testing.T, d *database, tr *Tracker) { restart(d); restart(d) }, -1},
		{"truncated", func(t *testing.T, d *database, tr *Tracker) {
			d.checkpoint("TRUNCATE")
			if got := commits(t, tr, d.log()); len(got) != 0 {
				t.Errorf("%d commits in an empty log", len(got))
			}
			d.exec("INSERT INTO t(v) VALUES('x')")
		}, 1},
		{"truncated twice", func(t *testing.T, d *database, tr *Tracker) {
			d.checkpoint("TRUNCATE")
			d.checkpoint("TRUNCATE")
			d.exec("INSERT INTO t(v) VALUES('x')")
		}, -1},
		{"truncated twice, and told", func(t *testing.T, d *database, tr *Tracker) {
			d.checkpoint("TRUNCATE")
			d.checkpoint("TRUNCATE")
			tr.Reset()
			d.exec("INSERT INTO t(v) VALUES('x')")
		}, 1},
		{"not truncated, but told so", func(t *testing.T, d *database, tr *Tracker) {
			tr.Reset()
			d.exec("INSERT INTO t(v) VALUES('x')")
		}, 1},
		{"another log, and copied before", func(t *testing.T, d *database, tr *Tracker) {
			tr.Copied()
			d.checkpoint("TRUNCATE")
			d.checkpoint("TRUNCATE")
			d.exec("INSERT INTO t(v) VALUES('x')")
		}, 1},
		{"restarted, and copied before", func(t *testing.T, d *database, tr *Tracker) { tr.Copied(); restart(d) }, 1},
		{"not restarted, and copied before", func(t *testing.T, d *database, tr *Tracker) {
			tr.Copied()
			d.exec("INSERT INTO t(v) VALUES('x')")
		}, 1},
		{"another log, and copied before that went on", func(t *testing.T, d *database, tr *Tracker) {
			tr.Copied()
			d.exec("INSERT INTO t(v) VALUES('x')")
			if got := commits(t, tr, d.log()); len(got) != 1 {
				t.Errorf("%d commits, want 1", len(got))
			}
			d.checkpoint("TRUNCATE")
			d.checkpoint("TRUNCATE")
			d.exec("INSERT INTO t(v) VALUES('x')")
		}, -1},
		{"removed", func(t *testing.T, d *database, tr *Tracker) {
			d.close()
			d.connect()
			d.exec("INSERT INTO t(v) VALUES('x')")
		}, -1},
		{"rolled back before its first commit", func(t *testing.T, d *database, tr *Tracker) {
			d.close()
			tr.Reset()
			d.connect()
			spill := "BEGIN; INSERT INTO t(v) VALUES(randomblob(100000)); UPDATE t SET v=randomblob(90000)"
			d.exec(spill)
			before := d.log()
			if got := commits(t, tr, before); len(got) != 0 {
				t.Errorf("%d commits before the first", len(got))
			}
			d.exec("ROLLBACK; INSERT INTO t(v) VALUES('x')")
			if bytes.Equal(before[:HeaderSize], d.log()[:HeaderSize]) {
				t.Error("SQLite kept the header: the test is not about what it says")
			}
		}, 1},
		{"its last frame overwritten", func(t *testing.T, d *database, tr *Tracker) {
			// By a writer that did not see the commit in the wal-index: the salts are
			// the same, the checksum is another.
			f, err := os.OpenFile(d.path+"-wal", os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			at := tr.Position().Offset() - int64(tr.Position().stride())
			if _, err := f.WriteAt(make([]byte, 8), at+16); err != nil {
				t.Fatal(err)
			}
		}, -1},
		{"its tail lost", func(t *testing.T, d *database, tr *Tracker) {
			if err := os.Truncate(d.path+"-wal", tr.Position().Offset()-1); err != nil {
				t.Fatal(err)
			}
		}, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDatabase(t, t.TempDir(), plain(1024))
			defer func() { d.close() }()
			d.exec("INSERT INTO t(v) VALUES(randomblob(9000))")
			tr := NewTracker(Position{})
			if got := commits(t, tr, d.log()); len(got) != 2 {
				t.Fatalf("%d commits at first, want 2", len(got))
			}
			seen := tr.Position()
			tt.change(t, d, tr)
			log := d.log()
			held, err := NewTracker(seen).Check(bytes.NewReader(log))
			if err != nil {
				t.Fatal(err)
			}
			if ok := tt.name == "untouched" || strings.HasPrefix(tt.name, "not "); held != ok {
				t.Errorf("Check says %v", held)
			}
			n := 0
			err = tr.Look(bytes.NewReader(log), func(Commit) error { n++; return nil })
			switch {
			case tt.want < 0 && !errors.Is(err, ErrMissed):
				t.Fatalf("%d commits, error %v; want ErrMissed", n, err)
			case tt.want >= 0 && (err != nil || n != tt.want):
				t.Fatalf("%d commits, error %v; want %d", n, err, tt.want)
			}
		})
	}
}

// brokenAfter is a log whose device fails after so many reads.
type brokenAfter struct {
	log   io.ReaderAt
	reads int
}

var errDevice = errors.New("device failed")

func (b *brokenAfter) ReadAt(p []byte, off int64) (int, error) {
	if b.reads--; b.reads < 0 {
		// Some of it was read, as a real device may do.
		n, _ := b.log.ReadAt(p[:len(p)/2], off)
		return n, errDevice
	}
	return b.log.ReadAt(p, off)
}

// An error while reading is never the end of the log, and nothing is lost or
// doubled by it.
func TestReadErrors(t *testing.T) {
	_, log := busyLog(t, t.TempDir(), plain(4096), 40)
	want := commits(t, NewTracker(Position{}), log)
	for reads := 0; ; reads++ {
		tr := NewTracker(Position{})
		var got []Commit
		take := func(c Commit) error { got = append(got, c); return nil }
		err := tr.Look(&brokenAfter{bytes.NewReader(log), reads}, take)
		if err == nil {
			if reads < 4 {
				t.Fatalf("the log was read in %d reads: too small to test this", reads)
			}
			break
		}
		if !errors.Is(err, errDevice) {
			t.Fatalf("after %d reads: %v", reads, err)
		}
		if ok, err := tr.Check(&brokenAfter{bytes.NewReader(log), 0}); ok && !tr.Position().IsZero() || err != nil && !errors.Is(err, errDevice) {
			t.Fatalf("Check of a broken log: %v, %v", ok, err)
		}
		if err := tr.Look(bytes.NewReader(log), take); err != nil {
			t.Fatal(err)
		}
		sameCommits(t, got, want)
	}
}

// A commit that was not taken is offered again.
func TestEmitErrors(t *testing.T) {
	_, log := busyLog(t, t.TempDir(), plain(512), 5)
	want := commits(t, NewTracker(Position{}), log)
	full := errors.New("no room")
	tr := NewTracker(Position{})
	var got []Commit
	for refuse := true; len(got) < len(want); refuse = !refuse {
		err := tr.Look(bytes.NewReader(log), func(c Commit) error {
			if refuse {
				return full
			}
			refuse = true
			got = append(got, c)
			return nil
		})
		if err != full && len(got) < len(want) {
			t.Fatalf("error %v, want the one from emit", err)
		}
	}
	sameCommits(t, got, want)
}

func sameCommits(t tester, got, want []Commit) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d commits, want %d", len(got), len(want))
	}
	for i := range got {
		if fmt.Sprint(got[i]) != fmt.Sprint(want[i]) {
			t.Fatalf("commit %d is\n%v, want\n%v", i, got[i], want[i])
		}
	}
}
