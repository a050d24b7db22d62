package generations

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/walback/walback/wal"
)

// FuzzWords parses arbitrary words as everything that a key, a path of the
// history tree or a flag can name. What parses is written as the same again.
func FuzzWords(f *testing.F) {
	for _, s := range []string{
		"c/generations/0123456789abcdef/generation.json",
		"a/b/generations/0123456789abcdef/wal/0000000001.wal",
		"generations/generations/0123456789abcdef/wal/0000000001-0000000002.wal",
		"c/generations/0123456789abcdef/wal/0000000001-0000000001.piece",
		"c/generations/0123456789abcdef/snapshot/9999999999.snap",
		"c/generations/0123456789abcdef/wal/+000000001.wal",
		"/generations/0123456789abcdef/wal/0000000001.wal",
		"0123456789abcdef", "9999999999", "acme/db.sqlite", "eu/app.db", "db.sqlite", "../x", "a//b", "latest", "@12", "2h-ago",
		"2024-01-14", "2024-01-14T15:45", "2024-01-14T15:45:00.123456+01:00",
		"s3://bucket/databases/c1?endpoint=http://127.0.0.1:7070&region=eu-west-1&path-style=true",
		"s3://b/%3F%23%25+%2B ü?path-style=false", "file:///srv/back%20up", "file:///%2F%3F", "s3://key:secret@b",
	} {
		f.Add(s, int64(1705248000000000))
	}
	f.Fuzz(func(t *testing.T, s string, now int64) {
		fuzzKey(t, s)
		fuzzClient(t, s)
		fuzzNumbers(t, s)
		fuzzURL(t, s)
		if now > -1<<52 && now < 1<<52 { // what a year of four digits can say
			fuzzInstant(t, s, wal.Time(now))
		}
	})
}

func fuzzKey(t *testing.T, key string) {
	o, err := ParseKey(key)
	if err == nil && o.Key() != key {
		t.Fatalf("%q parses to %+v, which is %q", key, o, o.Key())
	}
	if err == nil && CheckClient(o.Client) != nil {
		t.Fatalf("%q parses with client %q", key, o.Client)
	}
}

func fuzzClient(t *testing.T, s string) {
	if CheckClient(s) != nil {
		return
	}
	for _, o := range []Object{{Kind: ManifestObject}, {Kind: SegmentObject, First: 1}, {Kind: PieceObject, First: 1, Last: wal.MaxTXID}} {
		o.Client, o.Generation = s, 1
		if got, err := ParseKey(o.Key()); err != nil || got != o {
			t.Fatalf("%+v comes back from its key as %+v, %v", o, got, err)
		}
	}
	client, file := ClientOf(s)
	if got := PathOf(client, file); got != s && s != "db.sqlite/db.sqlite" {
		t.Fatalf("%q is client %q, file %q, which is %q", s, client, file, got)
	}
	if err := CheckClient(client); err != nil || fileOf(file) != file {
		t.Fatalf("%q is client %q (%v), file %q", s, client, err, file)
	}
}

func fuzzNumbers(t *testing.T, s string) {
	id, err := ParseID(s)
	if err == nil && (id.String() != s || id == 0) {
		t.Fatalf("generation %q is %s", s, id)
	}
	var text ID
	if again := text.UnmarshalText([]byte(s)); text != id || (again == nil) != (err == nil) {
		t.Fatalf("generation %q is %s, %v, and as text %s, %v", s, id, err, text, again)
	}
	if n, err := wal.ParseTXID(s); err == nil && (n == 0 || n > wal.MaxTXID || strings.TrimLeft(s, "0") != n.String()) {
		t.Fatalf("transaction %q is %d", s, n)
	}
}

func fuzzInstant(t *testing.T, s string, now wal.Time) {
	i, err := ParseInstant(s, now)
	if err != nil {
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("an error of more than a line: %q", err)
		}
		return
	}
	if year := i.String(); strings.HasPrefix(year, "-") || len(year) == 28 {
		return // an offset has moved it out of the years 0 to 9999
	}
	again, err := ParseInstant(i.String(), now)
	if err != nil || again.String() != i.String() {
		t.Fatalf("%q is %s, which is %s, %v", s, i, again, err)
	}
	a, isTime := i.Time()
	b, _ := again.Time()
	if _, err := ParseTime(s, now); a != b || isTime != (err == nil) {
		t.Fatalf("%q: %v %v %v", s, a, b, err)
	}
}

// fuzzURL: what is accepted prints as something that reads the same.
func fuzzURL(t *testing.T, s string) {
	u, err := ParseURL(s)
	if err != nil {
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("an error of more than a line: %q", err)
		}
		return
	}
	printed := u.String()
	again, err := ParseURL(printed)
	if err != nil || again != u || again.String() != printed {
		t.Errorf("%q: %+v is printed as %q, which reads as %+v, %v", s, u, printed, again, err)
	}
}

// FuzzFiles reads arbitrary bytes as each of the small files, and what was
// written and then damaged.
func FuzzFiles(f *testing.F) {
	for _, b := range [][]byte{
		Manifest{Format: 1, File: "a.db", PageSize: 512, Created: 1, Writer: "w"}.Encode(),
		Manifest{
			Format: 1, File: "db.sqlite", PageSize: 65536, Created: 1_700_000_000_000_000, Writer: "0123",
			Parent: &Parent{Generation: 7, Txn: 9}, Key: []byte{1, 2, 3},
		}.Encode(),
		[]byte(`{"format":1,"client":"c","generations":[{"id":"0123456789abcdef","file":"db.sqlite","page_size":4096,"base":1,
			"parent":{"generation":"0123456789abcdee","transaction":7},"manifest":true,"snapshot":1,"snapshot_bytes":9,"behind":1,
			"segment":"c/generations/0123456789abcdef/wal/0000000002.wal",
			"mark":{"Txn":{"ID":2,"Time":3,"Size":4,"Pages":1,"Checksum":18446744073709551615},"PageSize":4096,"Log":{"Salt1":1,"Sum":[1,2]}}}]}`),
		(&Edition{
			Format: 1, Pruning: 9, Pruned: 1_700_000_000_000_001, Policy: "hourly 30d", First: FirstTxn{1, 1_700_000_000_000_000}, Through: 40,
			Kept: []KeptRun{{3, 3}, {7, 20}}, Segments: []string{"wal/0000000001-0000000040.0000000000000009.wal"}, Snapshots: []string{"snapshot/0000000002.snap"},
		}).Encode(),
		appendTime(appendTime(nil, 5, wal.TxnInfo{ID: 7, Time: 9, Checksum: 11}), 5, wal.TxnInfo{ID: 8, Time: 10}),
	} {
		f.Add(b, uint16(40), byte(1), uint16(100))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte, cut uint16) {
		damage := func(b []byte) []byte {
			b = bytes.Clone(b)
			if len(b) > 0 {
				b[int(at)%len(b)] ^= flip
			}
			return b[:min(int(cut), len(b))]
		}
		fuzzManifest(t, b)
		fuzzEdition(t, b)
		fuzzTimes(t, b, int(cut)%50, damage)
		fuzzState(t, b, damage)
	})
}

// fuzzState reads a state from arbitrary JSON. What was written comes back, and
// what was damaged does not.
func fuzzState(t *testing.T, b []byte, damage func([]byte) []byte) {
	st, err := parseState(fmt.Appendf(bytes.Clone(b), "%08x\n", crc32.ChecksumIEEE(b)))
	nameless := func(p progress) bool { return p.ID == 0 || p.Parent != nil && p.Parent.Generation == 0 }
	if err != nil || slices.ContainsFunc(st.Generations, nameless) {
		return // not one of ours
	}
	written, err := st.encode()
	if err != nil {
		t.Fatalf("%+v: %v", st, err)
	}
	again, err := parseState(written)
	if err != nil {
		t.Fatalf("%s: %v", written, err)
	}
	if b, err := again.encode(); err != nil || !bytes.Equal(b, written) {
		t.Fatalf("%s comes back as %s, %v", written, b, err)
	}
	if damaged := damage(written); !bytes.Equal(damaged, written) {
		if st, err := parseState(damaged); err == nil {
			t.Fatalf("%s is read as %+v", damaged, st)
		}
	}
}

// fuzzManifest: what parses encodes to something that parses to the same, and
// names what can be used.
func fuzzManifest(t *testing.T, b []byte) {
	m, err := ParseManifest(b)
	if err != nil {
		return
	}
	again, err := ParseManifest(m.Encode())
	if err != nil || string(again.Encode()) != string(m.Encode()) {
		t.Fatalf("%+v becomes %+v, %v", m, again, err)
	}
	if !wal.ValidPageSize(m.PageSize) || m.File == "" || strings.Contains(m.File, "/") ||
		m.Parent != nil && (m.Parent.Generation == 0 || m.Parent.Txn == 0) {
		t.Fatalf("%+v", m)
	}
}

// fuzzEdition: what is read is in order, and comes back as it is written.
func fuzzEdition(t *testing.T, b []byte) {
	e, err := ParseEdition(b)
	if err != nil {
		return
	}
	again, err := ParseEdition(e.Encode())
	if err != nil || !bytes.Equal(again.Encode(), e.Encode()) {
		t.Fatalf("%+v becomes %+v, %v", e, again, err)
	}
	for id := e.First.ID; id <= min(e.Through, e.First.ID+100); id++ {
		kept := slices.ContainsFunc(e.Kept, func(r KeptRun) bool { return r.First <= id && id <= r.Last })
		if e.keeps(id) != kept {
			t.Fatalf("transaction %d is kept: %t, %+v", id, !kept, e)
		}
	}
}

// fuzzTimes: what is believed of arbitrary bytes is in them, and what is believed
// of n records that were damaged was written.
func fuzzTimes(t *testing.T, b []byte, n int, damage func([]byte) []byte) {
	known, end := parseTimes(b)
	if end > int64(len(b)) || end%timeRecordSize != 0 {
		t.Fatalf("records up to %d of %d bytes", end, len(b))
	}
	for id, r := range known {
		record := appendTime(nil, r.generation, wal.TxnInfo{ID: id, Time: r.time, Checksum: r.checksum})
		if !bytes.Contains(b, record) {
			t.Fatalf("transaction %d: %+v is not in %x", id, r, b)
		}
	}
	var whole []byte
	for i := range n {
		whole = appendTime(whole, ID(n), wal.TxnInfo{ID: wal.TXID(i + 1), Time: wal.Time(1000 * i), Checksum: wal.Checksum(i) * 0x9e3779b97f4a7c15})
	}
	written, end := parseTimes(whole)
	if len(written) != n || end != int64(len(whole)) {
		t.Fatalf("%d records of %d come back, up to %d of %d bytes", len(written), n, end, len(whole))
	}
	known, _ = parseTimes(damage(whole))
	for id, r := range known {
		if r != written[id] {
			t.Fatalf("transaction %d: %+v was never written", id, r)
		}
	}
}

// TestDamagedStateIsNotBelieved changes every bit of a state file.
func TestDamagedStateIsNotBelieved(t *testing.T) {
	sp, err := OpenSpool(t.TempDir(), "file:///s")
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	st := state{Format: stateFormat, Client: "c", Generations: []progress{{ID: 7, File: "db.sqlite", PageSize: 512, Base: 1, Segment: "s"}}}
	if err := sp.saveState(st); err != nil {
		t.Fatal(err)
	}
	if have, err := sp.loadState("c"); err != nil || len(have.Generations) != 1 || have.Generations[0] != st.Generations[0] {
		t.Fatalf("%+v comes back as %+v, %v", st, have, err)
	}
	b, err := os.ReadFile(sp.statePath("c"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if err := os.WriteFile(sp.statePath("c"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			b[i] ^= 1 << bit
			if have, err := sp.loadState("c"); !errors.Is(err, errBadState) {
				t.Fatalf("bit %d of byte %d is another one: %+v, %v", bit, i, have, err)
			}
		}
	}
}
