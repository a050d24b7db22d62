package generations_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

func TestIDsAscend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var last generations.ID
		for _, now := range rapid.SliceOfN(rapid.Int64Range(-1<<40, 1<<51), 1, 20).Draw(t, "times") {
			id := generations.NewID(wal.Time(now), last)
			if id <= last || last != 0 && id.String() <= last.String() {
				t.Fatalf("%s does not come behind %s", id, last)
			}
			if id>>12 > last>>12 && id.Time() != wal.Time(now) && id != last+1 {
				t.Fatalf("%s was created at %s, not %s", id, id.Time(), wal.Time(now))
			}
			if again, err := generations.ParseID(id.String()); err != nil || again != id {
				t.Fatalf("%s parses to %s, %v", id, again, err)
			}
			last = id
		}
	})
	for _, s := range []string{"", "0", "0000000000000000", "0123456789ABCDEF", "0123456789abcdeg", "+123456789abcdef", "00123456789abcdef"} {
		if id, err := generations.ParseID(s); err == nil {
			t.Errorf("%q parses to %s", s, id)
		}
	}
}

// element draws a path element, often one that keys have a meaning for.
var element = rapid.OneOf(
	rapid.SampledFrom([]string{"generations", "wal", "snapshot", "generation.json", "db.sqlite", "0123456789abcdef", "0000000001.wal", "a-b", "ü"}),
	rapid.StringMatching(`[a-c.][a-c]{0,3}`))

func drawClient(t *rapid.T) string {
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(element, 1, 4).Draw(t, "elements"), "/")
	}).Filter(func(c string) bool { return generations.CheckClient(c) == nil }).Draw(t, "client")
}

func drawObject(t *rapid.T) generations.Object {
	o := generations.Object{
		Client:     drawClient(t),
		Generation: generations.ID(rapid.Uint64Min(1).Draw(t, "generation")),
		Kind:       rapid.SampledFrom([]generations.ObjectKind{generations.ManifestObject, generations.SnapshotObject, generations.SegmentObject, generations.PieceObject}).Draw(t, "kind"),
	}
	if o.Kind == generations.ManifestObject {
		return o
	}
	o.First = wal.TXID(rapid.Uint64Range(1, uint64(wal.MaxTXID)).Draw(t, "first"))
	if o.Kind == generations.PieceObject || o.Kind == generations.SegmentObject && rapid.Bool().Draw(t, "merged") {
		o.Last = wal.TXID(rapid.Uint64Range(uint64(o.First), uint64(wal.MaxTXID)).Draw(t, "last"))
	}
	return o
}

func TestKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawObject(t), drawObject(t)
		got, err := generations.ParseKey(a.Key())
		if err != nil || got != a {
			t.Fatalf("%s parses to %+v, %v; want %+v", a.Key(), got, err, a)
		}
		if strings.HasPrefix(a.Key(), b.Key()+"/") {
			t.Fatalf("%s is a directory of %s", b.Key(), a.Key())
		}
		if b.Client, b.Generation = a.Client, a.Generation; a.Kind == b.Kind && a.First < b.First && a.Key() >= b.Key() {
			t.Fatalf("%s does not sort before %s", a.Key(), b.Key())
		}
		if !strings.HasSuffix(a.Key(), a.Place().Generation+"/"+a.Place().Name) {
			t.Fatalf("%s is at %+v", a.Key(), a.Place())
		}
	})
}

func TestClientOf(t *testing.T) {
	for path, want := range map[string][2]string{
		"c1/db.sqlite":        {"c1", "db.sqlite"},
		"eu/c1/db.sqlite":     {"eu/c1", "db.sqlite"},
		"app.db":              {"app.db", "app.db"},
		"eu/app.db":           {"eu/app.db", "app.db"},
		"db.sqlite":           {"db.sqlite", "db.sqlite"},
		"generations/app.db":  {"generations/app.db", "app.db"},
		"app.db/db.sqlite":    {"app.db", "db.sqlite"},
		"x/db.sqlite/y.db":    {"x/db.sqlite/y.db", "y.db"},
		"x/db.sqlite/z/db.db": {"x/db.sqlite/z/db.db", "db.db"},
	} {
		client, file := generations.ClientOf(path)
		if client != want[0] || file != want[1] {
			t.Errorf("%s is client %s, file %s", path, client, file)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		path := strings.Join(rapid.SliceOfN(element, 1, 4).Draw(t, "path"), "/")
		client, file := generations.ClientOf(path)
		if got := generations.PathOf(client, file); got != path && path != "db.sqlite/db.sqlite" {
			t.Fatalf("%s is client %s, file %s, which is %s", path, client, file, got)
		}
	})
}

func TestClients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory()
		want := make(map[string]bool)
		for range rapid.IntRange(0, 5).Draw(t, "objects") {
			o := drawObject(t)
			m.objects[o.Key()] = nil
			want[o.Client] = true
		}
		for c, err := range generations.Clients(context.Background(), m) {
			if err != nil || !want[c] {
				t.Fatalf("client %q, %v in %q", c, err, m.keys())
			}
			delete(want, c)
		}
		if len(want) > 0 {
			t.Fatalf("not found: %v in %q", want, m.keys())
		}
	})
}

func TestParseTime(t *testing.T) {
	now := wal.TimeOf(time.Date(2024, 1, 14, 16, 0, 0, 500_000_000, time.UTC))
	for s, want := range map[string]string{
		"2024-01-14T15:45:00Z":             "2024-01-14T15:45:00.000000Z",
		"2024-01-14T15:45:00.123456Z":      "2024-01-14T15:45:00.123456Z",
		"2024-01-14T15:45:00.5+05:30":      "2024-01-14T10:15:00.500000Z",
		"2024-01-14T15:45:00-01:00":        "2024-01-14T16:45:00.000000Z",
		"2024-01-14":                       "2024-01-14T00:00:00.000000Z",
		"2024-01-14T15:45":                 "2024-01-14T15:45:00.000000Z",
		"2024-01-14T15:45+01:00":           "2024-01-14T14:45:00.000000Z",
		"2024-01-14T15:45:30":              "2024-01-14T15:45:30.000000Z",
		"2024-01-14T15:45:30.25":           "2024-01-14T15:45:30.250000Z",
		"2024-02-29":                       "2024-02-29T00:00:00.000000Z",
		"1965-02-03T04:05:06.000007+00:00": "1965-02-03T04:05:06.000007Z",
		"90s-ago":                          "2024-01-14T15:58:30.500000Z",
		"90m-ago":                          "2024-01-14T14:30:00.500000Z",
		"2h-ago":                           "2024-01-14T14:00:00.500000Z",
		"3d-ago":                           "2024-01-11T16:00:00.500000Z",
		"1w-ago":                           "2024-01-07T16:00:00.500000Z",
		"0s-ago":                           "2024-01-14T16:00:00.500000Z",
	} {
		got, err := generations.ParseTime(s, now)
		if err != nil || got.String() != want {
			t.Errorf("%s is %s, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "latest", "@1", "now", "2024", "2024-1-14", "2024-01-32", "2023-02-29", "2024-01-14Z", "2024-01-14T", "2024-01-14T15",
		"2024-01-14T24:00", "2024-01-14T15:60", "2024-01-14T15:45:00.1234567Z", "2024-01-14T15:45:00,5Z", "2024-01-14T15:45:00.Z",
		"2024-01-14 15:45", "2024-01-14t15:45:00z", "2024-01-14T15:45:00+0100", " 2024-01-14", "2024-01-14\n", "-2h-ago", "+2h-ago",
		"h-ago", "2-ago", "2y-ago", "2h", "1.5h-ago", "9999999999h-ago", "5000000d-ago", "2024-01-14T15:45:00+25:00",
	} {
		if got, err := generations.ParseTime(s, now); err == nil {
			t.Errorf("%q is %s", s, got)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", s)) || !strings.Contains(err.Error(), "2h-ago") && !strings.Contains(err.Error(), "90m-ago") {
			t.Errorf("%q: the error does not say what is accepted: %v", s, err)
		}
	}
}

func TestParseInstant(t *testing.T) {
	now := wal.TimeOf(time.Date(2024, 1, 14, 16, 0, 0, 0, time.UTC))
	for s, want := range map[string]generations.Instant{
		"latest":               generations.Latest(),
		"@1":                   generations.AtTXID(1),
		"@0000001234":          generations.AtTXID(1234),
		"2024-01-14T16:00:00Z": generations.AtTime(now),
	} {
		if got, err := generations.ParseInstant(s, now); err != nil || got != want {
			t.Errorf("%s is %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"@", "@0", "@-1", "@+1", "@1x", "@10000000000", "Latest", "", "..", "log"} {
		if got, err := generations.ParseInstant(s, now); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
	ago, err := generations.ParseInstant("1h-ago", now)
	if at, ok := ago.Time(); err != nil || !ok || at != now-3_600_000_000 || !ago.Moving() || ago.IsLatest() {
		t.Errorf("an hour ago is %v, %v", ago, err)
	}
	if !generations.Latest().Moving() || generations.AtTXID(1).Moving() || generations.AtTime(now).Moving() {
		t.Error("only latest and relative times move")
	}
}

func TestManifest(t *testing.T) {
	m := generations.Manifest{
		Format: 1, File: "db.sqlite", PageSize: 4096, Created: 1705248000123456, Writer: "w",
		Parent: &generations.Parent{Generation: 7, Txn: 9}, Key: []byte{1, 2},
	}
	got, err := generations.ParseManifest(m.Encode())
	if err != nil || string(got.Encode()) != string(m.Encode()) || *got.Parent != *m.Parent || got.Created != m.Created {
		t.Fatalf("%+v, %v", got, err)
	}
	if !json.Valid(m.Encode()) || !strings.Contains(string(m.Encode()), `"2024-01-14T16:00:00.123456Z"`) {
		t.Fatalf("%s", m.Encode())
	}
	for name, spoil := range map[string]func(*generations.Manifest){
		"format":    func(m *generations.Manifest) { m.Format = 2 },
		"page size": func(m *generations.Manifest) { m.PageSize = 1000 },
		"file":      func(m *generations.Manifest) { m.File = "../x" },
		"no file":   func(m *generations.Manifest) { m.File = "" },
		"parent":    func(m *generations.Manifest) { m.Parent = &generations.Parent{Generation: 1} },
	} {
		bad := m
		spoil(&bad)
		if _, err := generations.ParseManifest(bad.Encode()); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
	if _, err := generations.ParseManifest(m.Encode()[:40]); err == nil {
		t.Error("a cut manifest was accepted")
	}
}

func TestSpoolIsForOneURLAndOneProcess(t *testing.T) {
	dir := generations.SpoolDir(t.TempDir(), "s3://a/b")
	sp, err := generations.OpenSpool(dir, "s3://a/b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := generations.OpenSpool(dir, "s3://a/b"); !errors.Is(err, generations.ErrSpoolInUse) {
		t.Fatalf("opened twice: %v", err)
	}
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := generations.OpenSpool(dir, "s3://a/c"); err == nil || !strings.Contains(err.Error(), "s3://a/b") {
		t.Fatalf("opened for another URL: %v", err)
	}
	sp, err = generations.OpenSpool(dir, "s3://a/b")
	if err != nil {
		t.Fatal(err)
	}
	if clients, err := sp.Clients(); err != nil || len(clients) != 0 {
		t.Fatal(clients, err)
	}
	if err := sp.Close(); err != nil {
		t.Fatal(err)
	}
	if generations.SpoolDir("/x", "s3://a/b") == generations.SpoolDir("/x", "s3://a/c") {
		t.Fatal("two URLs have one spool")
	}
}

// A database that nobody opens any more is shipped from what the spool has.
func TestAbandonedDatabaseIsShipped(t *testing.T) {
	m := newMemory()
	m.hook(func(call) error { return errDown }, nil)
	r := newRig(t, m, t.TempDir(), time.Microsecond)
	w, d := r.open(), newDatabase(70, 512)
	r.begin(w, d.base(false))
	w.Append(d.commit())
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if clients, err := r.spool.Clients(); err != nil || !slices.Equal(clients, []string{client}) {
		t.Fatal(clients, err)
	}
	r.close()
	m.hook(nil, nil)
	r = newRig(t, m, r.dir, time.Microsecond)
	r.flush()
	wantHistory(t, m, nil, d.history)
}
