package s3store

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseContentRange(t *testing.T) {
	for v, want := range map[string][2]int64{
		"bytes 0-99/1000":    {0, 1000},
		"bytes 999-999/1000": {999, 1000},
		"bytes 5-9223372036854775806/9223372036854775807": {5, 9223372036854775807},
	} {
		if first, size, err := parseContentRange(v); err != nil || first != want[0] || size != want[1] {
			t.Errorf("%s: from %d of %d, %v", v, first, size, err)
		}
	}
	for _, v := range []string{
		"", "bytes", "bytes ", "bytes 0-99", "bytes 0/1000", "bytes */1000", "bytes 0-99/*", "items 0-99/1000", "bytes -1-99/1000",
		"bytes 1000-1000/1000", "bytes 0-99/0", "bytes x-99/1000", "bytes 0-99/99999999999999999999",
	} {
		if first, size, err := parseContentRange(v); err == nil {
			t.Errorf("%q: from %d of %d", v, first, size)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", v)) {
			t.Errorf("%q: %v", v, err)
		}
	}
}

// FuzzContentRange: what a server answers is refused, or a place within an object.
func FuzzContentRange(f *testing.F) {
	for _, v := range []string{"bytes 0-99/1000", "bytes */1000", "bytes 0-99/*", "bytes -5-7/9", ""} {
		f.Add(v, int64(5), int64(9))
	}
	f.Fuzz(func(t *testing.T, v string, first, size int64) {
		if first, size, err := parseContentRange(v); err == nil && (first < 0 || first >= size) {
			t.Errorf("%q: from %d of %d", v, first, size)
		}
		a, b, err := parseContentRange(fmt.Sprintf("bytes %d-%d/%d", first, max(first, size-1), size))
		if ok := first >= 0 && first < size; ok != (err == nil) || ok && (a != first || b != size) {
			t.Errorf("from %d of %d: from %d of %d, %v", first, size, a, b, err)
		}
	})
}
