package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// front is a proxy in front of a server of one object of so many bytes.
func front(t *testing.T, object int) *s3 {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	t.Setenv("AWS_REGION", "us-east-1")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "object", time.Time{}, strings.NewReader(strings.Repeat("x", object)))
	}))
	t.Cleanup(server.Close)
	s := &s3{}
	if err := s.listen(strings.TrimPrefix(server.URL, "http://")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.proxy.Close() })
	return s
}

func TestRequestsAreCounted(t *testing.T) {
	s := front(t, 1000)
	for _, p := range []part{{"/bucket/object", 10, 30}, {"/bucket/object", 30, 40}} {
		if err := s.get(t.Context(), http.DefaultClient, p); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.counted(); r.gets != 2 || r.bytes != 30 || r.trips != 2 || total(r.parts) != 30 || len(together(r.parts)) != 1 {
		t.Errorf("two requests one after the other: %+v", r)
	}
	// Of requests at the same time, each waits longer than it takes to send all.
	s.delay.Store(int64(300 * time.Millisecond))
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if err := s.get(t.Context(), http.DefaultClient, part{"/bucket/object", 0, 1}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if r := s.counted(); r.gets != 5 || r.trips != 1 {
		t.Errorf("five requests at the same time: %+v", r)
	}
	s.delay.Store(0)
	for _, ask := range []string{"GET /bucket?list-type=2", "HEAD /bucket/object"} {
		method, path, _ := strings.Cut(ask, " ")
		r, err := http.NewRequest(method, "http://"+s.front.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
	}
	if r := s.counted(); r.gets != 0 || r.lists != 1 || r.others != 1 || r.bytes != 0 {
		t.Errorf("a listing and a look: %+v", r)
	}
}

func TestFetch(t *testing.T) {
	s := front(t, fetchPart+1000)
	asked := []part{{"/b/o", 100, 200}, {"/b/o", 0, 100}, {"/b/o", 150, fetchPart + 50}, {"/b/p", 7, 9}}
	if err := s.fetch(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	if r := s.counted(); r.gets != 3 || r.bytes != fetchPart+50+2 || total(r.parts) != r.bytes {
		t.Errorf("%d GETs of %d bytes; want 3 of %d", r.gets, r.bytes, fetchPart+50+2)
	}
	if err := s.fetch(t.Context(), []part{{"/b/o", 0, 2 * fetchPart}}); err == nil {
		t.Error("no error for bytes that are not there")
	}
}

func TestFindings(t *testing.T) {
	for _, c := range []struct {
		name string
		f    finding
		want string
	}{
		{"met", finding{values: []float64{1, 2, 6}, print: number, most: 6}, "2|6|≤ 6|met"},
		{"not met by the worst", finding{values: []float64{1, 2, 7}, print: number, most: 6}, "2|7|≤ 6|**not met**"},
		{"no bound", finding{values: []float64{1, 2, 7}, print: number}, "2|7||"},
		{"failed", finding{failed: true}, "failed|||"},
		{"nothing may be", finding{values: []float64{1}, print: number, bounded: true}, "1||≤ 0|**not met**"},
	} {
		if got := strings.Join(c.f.cells()[1:], "|"); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Each of the two commands that write the document leaves what the other one
// wrote, and what was measured of other sizes.
func TestPartsOfTheReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	rows := []row{{name: "reads", cells: map[string]string{sidePlain: "7/s"}}}
	wrote := func(size int64, name string, n float64) func() error {
		h := &history{instants: 20, made: made{Asked: size, Pages: 10, PageSize: 4096, Transactions: 100_001}}
		return func() error {
			return writeHistory(file, machine{}, h, []finding{{name: name, values: []float64{n}, print: number, most: 5}})
		}
	}
	report := func() error { return writeReport(file, machine{}, scaleOf(true, false), []side{plain{}}, rows) }
	for i, write := range []func() error{
		report, wrote(1<<30, "old", 1), wrote(10<<30, "large", 2), report, wrote(1<<30, "objects", 3), wrote(300<<20, "small", 6), report,
	} {
		if err := write(); err != nil {
			t.Fatal(i, err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for want, n := range map[string]int{"# Benchmarks\n": 1, "| reads | 7/s |": 1, historyHeading + historyIntroduction: 1,
		"\n\n### 1 GB, 100,000 transactions\n\n": 1, "\n\n### 10 GB, 100,000 transactions\n\n": 1, "\n\n### 300 MB, ": 1,
		"| objects | 3 |  | ≤ 5 | met |\n": 1, "| large | 2 |  | ≤ 5 | met |\n": 1, "| small | 6 |  | ≤ 5 | **not met** |\n": 1, "| old |": 0} {
		if got := strings.Count(string(text), want); got != n {
			t.Errorf("%q is there %d times, want %d:\n%s", want, got, n, text)
		}
	}
	if strings.Index(string(text), "| objects |") > strings.Index(string(text), "| large |") {
		t.Errorf("what is written again has lost its place:\n%s", text)
	}
}

// A measure that fails, or takes too long, keeps none of the others from being
// taken.
func TestMeasureEndsInTime(t *testing.T) {
	h := &history{bench: &bench{ctx: t.Context()}, limit: time.Millisecond}
	found, err := h.inTime(func() ([]finding, error) {
		<-h.ctx.Done()
		return []finding{{name: "half"}}, h.ctx.Err()
	})
	if err == nil || !strings.Contains(err.Error(), "not done within 1ms") || len(found) != 1 || h.ctx.Err() != nil {
		t.Errorf("%v, %v; the whole is %v", found, err, h.ctx.Err())
	}
	if err := h.each(3, func() error { return os.ErrInvalid }); err != os.ErrInvalid {
		t.Errorf("what fails three times: %v", err)
	}
}
