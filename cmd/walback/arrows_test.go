package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/walback/walback"

// listed is a package as go list -json tells of it.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// TestArrows holds the table in docs/architecture.md against what the packages
// import: the table is the rule, and this is all that reads it.
func TestArrows(t *testing.T) {
	allowed := readArrows(t)
	for _, p := range goList(t, module+"/...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		may, ok := allowed[name]
		if !ok {
			t.Errorf("package %s is not in the table of docs/architecture.md", name)
			continue
		}
		for _, imported := range p.Imports {
			ours, ok := strings.CutPrefix(imported, module+"/")
			if ok && !slices.Contains(may, ours) && !slices.Contains(may, "all") {
				t.Errorf("%s imports %s; docs/architecture.md lets it import %q", name, ours, may)
			}
		}
	}
}

// TestNoNetworkInTheWritePath asserts that no code which can speak to a store is
// linked into what stands between an application and its files.
func TestNoNetworkInTheWritePath(t *testing.T) {
	for _, name := range []string{"wal", "wal/pack", "snapshot", "fs", "fs/live"} {
		for _, p := range goList(t, module+"/"+name) {
			for _, dep := range p.Deps {
				if dep == "net/http" || dep == "crypto/tls" ||
					strings.HasPrefix(dep, "github.com/aws/") || strings.HasPrefix(dep, module+"/generations") {
					t.Errorf("%s reaches %s", name, dep)
				}
			}
		}
	}
}

// TestProgramNeedsNoC asserts that the program builds without a C compiler:
// go-sqlite3 is for tests.
func TestProgramNeedsNoC(t *testing.T) {
	for _, p := range goList(t, module+"/cmd/walback") {
		for _, dep := range p.Deps {
			if dep == "runtime/cgo" || strings.HasPrefix(dep, "github.com/mattn/go-sqlite3") {
				t.Errorf("walback reaches %s", dep)
			}
		}
	}
}

// readArrows returns, for each package in the table of docs/architecture.md, the
// packages it may import. A name in the first column without a slash that
// follows one with a slash lies in the same folder.
func readArrows(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| (`.+`) \\| .+ \\| (.+) \\|$")
	quoted := regexp.MustCompile("`([^`]+)`")
	arrows := map[string][]string{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		var may []string
		for _, q := range quoted.FindAllStringSubmatch(m[2], -1) {
			may = append(may, q[1])
		}
		if m[2] == "all" {
			may = []string{"all"}
		}
		folder := ""
		for _, q := range quoted.FindAllStringSubmatch(m[1], -1) {
			name := q[1]
			if strings.Contains(name, "/") {
				folder = path.Dir(name)
			} else if folder != "" {
				name = path.Join(folder, name)
			}
			arrows[name] = may
		}
	}
	if len(arrows) < 10 {
		t.Fatalf("found %d packages in the table of docs/architecture.md, expected at least 10", len(arrows))
	}
	return arrows
}

// goList returns the packages that match pattern, as built without cgo.
func goList(t *testing.T, pattern string) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Standard,Imports,Deps", pattern)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v: %s", pattern, err, stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
