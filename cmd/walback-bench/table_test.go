package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRatios(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b []float64
		want string
	}{
		{"of the same round", []float64{1, 4, 9}, []float64{2, 4, 6}, "1.00 (0.50–1.50)"},
		{"one round has no spread", []float64{3}, []float64{2}, "1.50"},
		{"small ones", []float64{1, 1, 1}, []float64{64, 64, 64}, "0.016 (0.016–0.016)"},
		{"large ones", []float64{100}, []float64{3}, "33"},
		{"none", nil, []float64{1}, "–"},
	} {
		if got := ratios(c.a, c.b); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	var sorted []float64
	for i := range 1000 {
		sorted = append(sorted, float64(i))
	}
	for share, want := range map[float64]float64{0: 0, 0.5: 499, 0.999: 998, 1: 999} {
		if got := quantile(sorted, share); got != want {
			t.Errorf("quantile %v is %v, want %v", share, got, want)
		}
	}
	if got := quantile(nil, 1); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
}

// A side that was not measured leaves a dash, so that the columns stay where they
// belong.
func TestReport(t *testing.T) {
	sides := []side{plain{}, walback{}, litestream{}}
	rows := []row{{name: "reads", target: "≥ 1", cells: map[string]string{sidePlain: "7/s", sideLitestream: "0.5"}}}
	name := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := writeReport(name, machine{kernel: "Linux 6"}, scaleOf(true, false), sides, rows); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| measure | plain | walback | Litestream | to reach |\n|---|---|---|---|---|\n",
		"| reads | 7/s | – | 0.5 | ≥ 1 |\n",
		"scale -quick", "Linux 6",
	} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestLastNumber(t *testing.T) {
	if n, err := lastNumber(strings.NewReader("1\n2\n30\n")); n != 30 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := lastNumber(strings.NewReader("1\nx\n")); err == nil {
		t.Error("no error for what is no number")
	}
}
