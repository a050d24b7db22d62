package generations

import (
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
	} {
		f.Add(s, int64(1705248000000000))
	}
	f.Fuzz(func(t *testing.T, s string, now int64) {
		fuzzKey(t, s)
		fuzzClient(t, s)
		fuzzNumbers(t, s)
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

// FuzzParseURL: what is accepted prints as something that reads the same.
func FuzzParseURL(f *testing.F) {
	for _, s := range []string{
		"s3://bucket/databases/c1?endpoint=http://127.0.0.1:7070&region=eu-west-1&path-style=true",
		"s3://b/%3F%23%25+%2B ü?path-style=false", "file:///srv/back%20up", "file:///%2F%3F", "s3://key:secret@b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURL(s)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of more than a line: %q", err)
			}
			return
		}
		printed := u.String()
		again, err := ParseURL(printed)
		if err != nil || again != u || again.String() != printed {
			t.Errorf("%q: %+v is printed as %q, which reads as %+v, %v", s, u, printed, again, err)
		}
	})
}

// FuzzManifest: what parses encodes to something that parses to the same, and
// names what can be used.
func FuzzManifest(f *testing.F) {
	f.Add(Manifest{Format: 1, File: "a.db", PageSize: 512, Created: 1, Writer: "w"}.Encode())
	f.Add(Manifest{
		Format: 1, File: "db.sqlite", PageSize: 65536, Created: 1_700_000_000_000_000, Writer: "0123",
		Parent: &Parent{Generation: 7, Txn: 9}, Key: []byte{1, 2, 3},
	}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
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
	})
}

// FuzzTimes damages the file of times: what is still believed was written.
func FuzzTimes(f *testing.F) {
	f.Add(uint16(3), uint16(40), byte(1), uint16(100), []byte(nil))
	f.Add(uint16(9), uint16(0), byte(0), uint16(400), appendTime(nil, 5, wal.TxnInfo{ID: 7, Time: 9, Checksum: 11}))
	f.Fuzz(func(t *testing.T, n, at uint16, flip byte, cut uint16, more []byte) {
		var b []byte
		for i := range n % 100 {
			b = appendTime(b, ID(n), wal.TxnInfo{ID: wal.TXID(i + 1), Time: wal.Time(1000 * i), Checksum: wal.Checksum(i) * 0x9e3779b97f4a7c15})
		}
		written, end := parseTimes(b)
		if len(written) != int(n%100) || end != int64(len(b)) {
			t.Fatalf("%d records of %d come back, up to %d of %d bytes", len(written), n%100, end, len(b))
		}
		if len(b) > 0 {
			b[int(at)%len(b)] ^= flip
		}
		b = b[:min(int(cut), len(b))]
		known, end := parseTimes(b)
		if end > int64(len(b)) || end%timeRecordSize != 0 || len(known) > len(b)/timeRecordSize {
			t.Fatalf("%d records up to %d, of %d bytes", len(known), end, len(b))
		}
		for id, r := range known {
			if r != written[id] {
				t.Fatalf("transaction %d: %+v was never written", id, r)
			}
		}
		known, _ = parseTimes(more) // anything at all
		for id, r := range known {
			if b := appendTime(nil, r.generation, wal.TxnInfo{ID: id, Time: r.time, Checksum: r.checksum}); !strings.Contains(string(more), string(b)) {
				t.Fatalf("transaction %d: %+v is not in %x", id, r, more)
			}
		}
	})
}
