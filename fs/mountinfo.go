package fs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// MountInfo is a walback mount of this machine, as this process sees it.
type MountInfo struct {
	Dir    string // where it is mounted, an absolute path
	Source string // what is mounted: the replica URL
	Type   string // "fuse.walback" or "fuse.walback-history"
}

// Mounts lists the walback mounts, in the order they were mounted. A daemon
// that was killed leaves its mount in the list.
func Mounts() ([]MountInfo, error) {
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	var ours []MountInfo
	for _, m := range all {
		if m.ours() {
			ours = append(ours, MountInfo{Dir: m.dir, Source: m.source, Type: m.fstype})
		}
	}
	return ours, nil
}

// mount is one line of /proc/self/mountinfo.
type mount struct {
	id     int    // of the mount; /proc/PID/fdinfo names it too
	dev    string // major:minor of the filesystem, as /proc/PID/maps has it in hex
	dir    string
	fstype string
	source string
}

// ours reports whether m is a mount of this program.
func (m mount) ours() bool {
	return m.fstype == fuseType(Live) || m.fstype == fuseType(History)
}

// mounts returns what is mounted in this process's mount namespace. Of several
// mounts at one directory, the last is on top.
func mounts() ([]mount, error) { return mountsOf("/proc/self") }

// mountsOf is mounts for the process at proc.
func mountsOf(proc string) ([]mount, error) {
	f, err := os.Open(filepath.Join(proc, "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	defer f.Close()
	return parseMounts(f)
}

func parseMounts(r io.Reader) ([]mount, error) {
	var all []mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, err := parseMount(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("listing mounts: %w", err)
		}
		all = append(all, m)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	return all, nil
}

// parseMount parses a line of mountinfo (proc_pid_mountinfo(5)):
//
//	36 35 98:0 /root /dir rw,noatime shared:1 master:2 - fuse.walback file:///store rw,user_id=0
//	id    dev  root  dir  options    any number          type         source        super options
func parseMount(line string) (mount, error) {
	const fixed = 6
	fields := strings.Split(line, " ")
	if len(fields) < fixed {
		return mount{}, fmt.Errorf("mountinfo line %q: too few fields", line)
	}
	dash := slices.Index(fields[fixed:], "-")
	if dash < 0 || len(fields) < fixed+dash+3 {
		return mount{}, fmt.Errorf("mountinfo line %q: too few fields", line)
	}
	id, err := strconv.Atoi(fields[0])
	if err != nil {
		return mount{}, fmt.Errorf("mountinfo line %q: mount id is no number", line)
	}
	return mount{
		id:     id,
		dev:    fields[2],
		dir:    unescape(fields[4]),
		fstype: fields[fixed+dash+1],
		source: unescape(fields[fixed+dash+2]),
	}, nil
}

// unescape undoes the kernel's mangling: space, tab, newline, backslash and #
// are written as a backslash and three octal digits.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// topMount returns the mount an application reaches at dir, and false when
// nothing is mounted right there. dir is absolute and has no symbolic links.
func topMount(dir string) (mount, bool, error) {
	all, err := mounts()
	if err != nil {
		return mount{}, false, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].dir == dir {
			return all[i], true, nil
		}
	}
	return mount{}, false, nil
}
