// Summary reads what go test -json prints and says it shorter: a line per
// package as it ends, the output of what failed, what was skipped and why, and
// the totals. It fails when a test, a package or the build did.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// summary collects what the events tell.
type summary struct {
	out                     io.Writer
	output                  map[string][]string // by package and test
	passed, failed, skipped int                 // tests
	packages, broken        int
	skips                   []string
}

func main() {
	began := time.Now()
	s := &summary{out: os.Stdout, output: map[string][]string{}}
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		os.Exit(1)
	}
	for _, skip := range s.skips {
		fmt.Fprintln(s.out, "skipped:", skip)
	}
	fmt.Fprintf(s.out, "%d packages, %d tests passed, %d failed, %d skipped in %s\n",
		s.packages, s.passed, s.failed, s.skipped, time.Since(began).Round(time.Second))
	if s.broken > 0 || s.failed > 0 || s.packages == 0 {
		os.Exit(1)
	}
}

// read takes in every line of r. A line that is not JSON is shown as it is.
func (s *summary) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(s.out, lines.Text())
			continue
		}
		s.take(e)
	}
	return lines.Err()
}

// take takes in one event.
func (s *summary) take(e event) {
	name := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "output":
		s.output[name] = append(s.output[name], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
		} else {
			s.endTest(e, name)
		}
		delete(s.output, name)
	}
}

// endTest counts a test and shows the output of one that failed.
func (s *summary) endTest(e event, name string) {
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		fmt.Fprint(s.out, strings.Join(s.output[name], ""))
	case "skip":
		s.skipped++
		why := "?"
		for _, line := range s.output[name] {
			line = strings.TrimSpace(line)
			if !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
				why = line
			}
		}
		s.skips = append(s.skips, name+": "+why)
	}
}

// endPackage shows a package's line, and what it printed when it failed.
func (s *summary) endPackage(e event) {
	mark := map[string]string{"pass": "ok  ", "skip": "    ", "fail": "FAIL"}[e.Action]
	if e.Action == "fail" {
		s.broken++
		for name, lines := range s.output {
			if strings.HasPrefix(name, e.Package+" ") {
				fmt.Fprint(s.out, strings.Join(lines, ""))
			}
		}
	}
	s.packages++
	fmt.Fprintf(s.out, "%s %6.1fs  %s\n", mark, e.Elapsed, e.Package)
}
