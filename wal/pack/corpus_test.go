package pack

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walback/walback/wal"
)

var writeCorpus = flag.Bool("write-corpus", false, "write the files of the current format version that are missing in testdata")

// TestFormats reads the files that every format version wrote, and compares all
// that is in them with the text written beside them. The files never change.
func TestFormats(t *testing.T) {
	dir := fmt.Sprintf("testdata/v%d", FormatVersion)
	if *writeCorpus {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		for name, b := range corpus(t) {
			writeMissing(t, filepath.Join(dir, name+".pack"), b)
		}
		for name := range corpus(t) {
			r := openFile(t, filepath.Join(dir, name+".pack"))
			writeMissing(t, filepath.Join(dir, name+".txt"), []byte(describe(t, r)))
		}
	}
	files, err := filepath.Glob("testdata/v*/*.pack")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		want, err := os.ReadFile(strings.TrimSuffix(file, ".pack") + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(t, openFile(t, file)); got != string(want) {
			t.Errorf("%s reads otherwise than it was written:\n%s", file, got)
		}
	}
}

// corpusPlace returns the place that a file of the corpus was written for. Maps
// and what they refer to have places of their own.
func corpusPlace(file string) Place {
	name := strings.TrimSuffix(filepath.Base(file), ".pack")
	if strings.HasPrefix(name, "map-") {
		return Place{testPlace.Generation, name}
	}
	return testPlace
}

// openFile opens a file of the corpus; what it refers to lies beside it.
func openFile(t *testing.T, file string) *Reader {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := func(p Place, _ int64) (io.ReaderAt, Memory) {
		other, err := os.ReadFile(filepath.Join(filepath.Dir(file), p.Name+".pack"))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(other), nil
	}
	r, err := Open(bytes.NewReader(b), int64(len(b)), corpusPlace(file), ReaderOptions{Elsewhere: elsewhere})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func writeMissing(t *testing.T, file string, b []byte) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if os.IsExist(err) {
		return
	}
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// corpus makes a file of every sort.
func corpus(t *testing.T) map[string][]byte {
	seed := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(n, 1)) }
	one, several := newHistory(seed(1), 4096, 1, 40, 5), newHistory(seed(2), 512, 12, 60, 9)
	many := newHistory(seed(3), 512, txnsPerTable+10, 30, 0)
	often := newHistory(seed(4), 1024, 40, 8, 3)
	files := map[string][]byte{
		"one":     one.encode(t, testPlace, WriterOptions{}, 0, 1),
		"several": several.encode(t, testPlace, WriterOptions{GroupSize: 2048}, 0, 12),
		"raw":     several.encode(t, testPlace, WriterOptions{Raw: true}, 0, 12),
		"often":   often.encode(t, testPlace, WriterOptions{}, 0, len(often.txns)),
		"many":    many.encode(t, testPlace, WriterOptions{}, 0, len(many.txns)),
	}
	for name, fuzzy := range map[string]bool{"snapshot": false, "fuzzy": true} {
		var b bytes.Buffer
		w := NewWriter(&b, Snapshot, 1024, testPlace, WriterOptions{Fuzzy: fuzzy})
		txn := wal.TxnInfo{ID: 3, Time: 1_700_000_000_000_000, Size: 20, Pages: 2}
		for p := wal.Pgno(1); p <= txn.Size; p++ {
			page := randomPage(seed(uint64(p)), 1024)
			if err := w.Add(p, 3, page); err != nil {
				t.Fatal(err)
			}
			if !fuzzy {
				txn.Checksum ^= wal.PageSum(p, page)
			}
		}
		if _, err := w.Finish([]wal.TxnInfo{txn}, wal.Mark{Txn: txn, PageSize: 1024}); err != nil {
			t.Fatal(err)
		}
		files[name] = b.Bytes()
	}
	var thinned bytes.Buffer
	needed := func(id wal.TXID) bool { return id%3 == 0 || id == several.txns[11].ID }
	if _, err := Thin(&thinned, testPlace, WriterOptions{}, 0, needed, open(t, files["several"], testPlace)); err != nil {
		t.Fatal(err)
	}
	files["thinned"] = thinned.Bytes()
	for _, o := range mappedCorpus(t) {
		files[o.place.Name] = o.bytes
	}
	return files
}

// describe tells all that is in a pack, after verifying it.
func describe(t *testing.T, r *Reader) string {
	t.Helper()
	if err := r.Verify(); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	i := r.Info()
	fmt.Fprintf(&b, "kind %d, pages of %d bytes, fuzzy %t, shrinks %t\n", i.Kind, i.PageSize, i.Fuzzy, i.Shrinks)
	if i.Thinned {
		fmt.Fprintln(&b, "thinned")
	}
	fmt.Fprintf(&b, "%d transactions, %d to %d\n", i.Txns, i.First.ID, i.Last.ID)
	fmt.Fprintf(&b, "%d versions of pages %d to %d\n", i.Versions, i.MinPgno, i.MaxPgno)
	fmt.Fprintf(&b, "log %+v\n", i.Mark.Log)
	txns, err := r.Txns()
	if err != nil {
		t.Fatal(err)
	}
	for n, t := range txns {
		if n > 100 && n%500 > 0 && n < len(txns)-1 {
			continue // some of thousands are enough
		}
		fmt.Fprintf(&b, "transaction %d %s size %d pages %d checksum %s\n", t.ID, t.Time, t.Size, t.Pages, t.Checksum)
	}
	for _, o := range r.Objects() {
		fmt.Fprintf(&b, "object %s of generation %s, %d bytes, %d references\n", o.Place.Name, o.Place.Generation, o.Size, o.Refs)
	}
	for v, err := range r.All(0) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "page %d of %d %s\n", v.Pgno, v.TXID, wal.PageSum(v.Pgno, v.Data))
	}
	return b.String()
}
