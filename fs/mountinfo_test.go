package fs

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The kernel's own list is read as util-linux reads it.
func TestMountsAsFindmnt(t *testing.T) {
	findmnt, err := exec.LookPath("findmnt")
	if err != nil {
		t.Skip("no findmnt")
	}
	out, err := exec.Command(findmnt, "--kernel", "--raw", "--noheadings", "-o", "ID,MAJ:MIN,FSTYPE,TARGET").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(out)), "\n")
	all, err := mounts()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	for _, m := range all {
		got[fmt.Sprintf("%d %s %s %s", m.id, m.dev, m.fstype, m.dir)] = true
	}
	for _, line := range want {
		// findmnt escapes again what is not printable; none of those here.
		if !strings.Contains(line, `\`) && !got[line] {
			t.Errorf("findmnt has %q, which was not read", line)
		}
	}
}

// FuzzParseMount reads arbitrary text as what /proc tells of mounts, and lines as
// the kernel writes them.
func FuzzParseMount(f *testing.F) {
	f.Add("/srv/app data", "s3://bucket/a#b", "fuse.walback", "shared:1")
	f.Add("/a\\b\tc\n", "", "ext4", "")
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f.Add(line, line, "x", "y")
	}
	f.Fuzz(func(t *testing.T, dir, source, fstype, optional string) {
		if all, err := parseMounts(strings.NewReader(dir)); err == nil && len(all) != strings.Count(strings.TrimSuffix(dir, "\n")+"\n", "\n") && dir != "" {
			t.Errorf("%q: parsed as %+v", dir, all)
		}
		if sameDevice(dir, source) && (dir == "" || !sameDevice(dir, strings.ToUpper(source))) {
			t.Errorf("%q and %q are the same device", dir, source)
		}
		if strings.ContainsAny(fstype+optional, " \n") || fstype == "" || optional == "-" {
			return
		}
		line := fmt.Sprintf("7 1 0:42 / %s rw %s - %s %s rw", mangle(dir), optional, fstype, mangle(source))
		m, err := parseMount(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		want := mount{id: 7, dev: "0:42", dir: dir, fstype: fstype, source: source}
		if m != want {
			t.Errorf("%q: got %+v, want %+v", line, m, want)
		}
	})
}

// mangle writes s as the kernel does (fs/proc_namespace.c, mangle).
func mangle(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(" \t\n\\#", s[i]) >= 0 {
			fmt.Fprintf(&b, `\%03o`, s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}
