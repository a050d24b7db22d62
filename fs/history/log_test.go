package history

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// long puts a generation of n transactions of the same single page, a second
// apart: a snapshot, and segments of at most so many transactions.
func (p *past) long(t testing.TB, client string, g generations.ID, from wal.Time, n, segment int) {
	t.Helper()
	page := make([]byte, wal.MinPageSize)
	put := func(o generations.Object, kind pack.Kind, first, last wal.TXID) {
		o.Client, o.Generation = client, g
		var b bytes.Buffer
		w := pack.NewWriter(&b, kind, len(page), o.Place(), pack.WriterOptions{})
		var txns []wal.TxnInfo
		for id := first; id <= last; id++ {
			if err := w.Add(1, id, page); err != nil {
				t.Fatal(err)
			}
			txns = append(txns, wal.TxnInfo{ID: id, Time: from + wal.Time(id)*second, Size: 1, Pages: 1, Checksum: wal.PageSum(1, page)})
		}
		if _, err := w.Finish(txns, wal.Mark{Txn: txns[len(txns)-1], PageSize: len(page)}); err != nil {
			t.Fatal(err)
		}
		p.put(t, o.Key(), b.Bytes())
	}
	m := generations.Manifest{Format: 1, File: "db.sqlite", PageSize: len(page), Created: from + second, Writer: "test"}
	p.put(t, generations.Object{Client: client, Generation: g, Kind: generations.ManifestObject}.Key(), m.Encode())
	put(generations.Object{Kind: generations.SnapshotObject, First: 1}, pack.Snapshot, 1, 1)
	for first := wal.TXID(2); int(first) <= n; first += wal.TXID(segment) {
		last := min(first+wal.TXID(segment)-1, wal.TXID(n))
		put(generations.Object{Kind: generations.SegmentObject, First: first}, pack.Segment, first, last)
	}
}

// A long log is right line by line, also across segments and generations, and
// wherever one begins to read; its end costs little.
func TestLongLog(t *testing.T) {
	const older, newer = 3*chunkLines + 17, chunkLines + 400
	p := newPast(t)
	first := generations.NewID(began, 0)
	later := generations.NewID(began+1e12, 0)
	p.long(t, "c1", first, began, older, 700)
	p.long(t, "c1", later, began+1e12, newer, 300)
	m := p.mount(t, nil)
	log := m.path("c1", "log")
	p.store.Reset()
	if got := output(t, "tail", "-n", "2", log); !strings.Contains(got, fmt.Sprintf("%10d ", newer)) {
		t.Errorf("tail: %s", got)
	}
	if c := p.store.Reset(); c.Gets > 12 {
		t.Errorf("the end of the log cost %+v", c)
	}
	whole, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(whole))
	lines.Scan() // the head
	for i := range older + newer {
		index, g := i+1, first
		if i >= older {
			index, g = i-older+1, later
		}
		if !lines.Scan() {
			t.Fatalf("the log ends after line %d", i)
		}
		if f := strings.Fields(lines.Text()); f[0] != fmt.Sprint(index) || f[5] != g.String() {
			t.Fatalf("line %d is %q, want transaction %d of %s", i+1, lines.Text(), index, g)
		}
	}
	if lines.Scan() {
		t.Errorf("the log goes on with %q", lines.Text())
	}
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.IntRange(0, len(whole)).Draw(t, "off")
		n := rapid.IntRange(0, min(len(whole)-off, 5*chunkLines*len(logHead)/2)).Draw(t, "n")
		got, err := exec.Command("dd", "if="+log, "iflag=skip_bytes,count_bytes", "bs=64k", fmt.Sprintf("skip=%d", off), fmt.Sprintf("count=%d", n), "status=none").Output()
		if err != nil || !bytes.Equal(got, whole[off:off+n]) {
			t.Fatalf("%d bytes of the log at %d: %v", n, off, err)
		}
	})
}
