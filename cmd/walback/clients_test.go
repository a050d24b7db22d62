package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/urfave/cli/v3"

	"github.com/walback/walback/generations"
)

// TestEachClient: what is wrong with one client does not keep a command from the
// others; when the store does not answer, none of them is asked for.
func TestEachClient(t *testing.T) {
	dir := t.TempDir()
	for _, client := range []string{"a", "b", "c", "d"} {
		generation := filepath.Join(dir, client, "generations/0000000000000001")
		if err := os.MkdirAll(generation, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(generation, "generation.json"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	damaged := errors.New("damaged")
	silent := &generations.StoreError{Op: "get", Name: "x", Text: "no answer"}
	failures := map[string]error{"a": damaged, "c": silent}
	var asked []string
	var printed bytes.Buffer
	p := &program{stdout: &printed, stderr: &printed}
	cmd := &cli.Command{Name: "each"}
	c, err := openClients(t.Context(), cmd, "file://"+dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	list := newListing(&printed, false, column[string]{"CLIENT", func(s string) string { return s }})
	err = eachClient(t.Context(), p, cmd, c, list, func(client string) ([]string, error) {
		asked = append(asked, client)
		return []string{client}, failures[client]
	})
	if !errors.Is(err, damaged) || !errors.Is(err, silent) {
		t.Errorf("the error is %v, want both", err)
	}
	if want := []string{"a", "b", "c"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	if got, want := printed.String(), "CLIENT\na\nb\nc\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}
