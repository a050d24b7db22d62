package fs

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// holders lists what keeps m mounted: open files, working directories, mapped
// files, and mounts inside it. Nothing here touches the files themselves: that
// would be a request to the very daemon that is about to stop. Processes that
// may not be looked at, or end meanwhile, are left out.
func holders(m mount) ([]string, error) {
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, in := range all {
		if below, ok := strings.CutPrefix(in.dir, m.dir+"/"); ok {
			found = append(found, fmt.Sprintf("%s (mount of %s)", below, in.source))
		}
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, proc := range procs {
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err != nil {
			return nil, err
		}
		who := fmt.Sprintf(" (%s%s", program(proc), byProcess(pid))
		for _, file := range m.heldBy(proc) {
			found = append(found, file+who)
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// byProcess is how what holders tells of a process ends.
func byProcess(pid int) string { return fmt.Sprintf(", pid %d)", pid) }

// elsewhere lists the mount namespaces besides this process's that have the
// filesystem of m mounted, as those of containers do: each with one process of it.
func elsewhere(m mount) ([]string, error) {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []string
	seen := map[string]bool{own: true}
	for _, proc := range procs {
		namespace, err := os.Readlink(filepath.Join(proc, "ns/mnt"))
		if err != nil || seen[namespace] {
			continue // ended, or another user's
		}
		all, err := mountsOf(proc)
		if err != nil {
			continue
		}
		seen[namespace] = true
		for _, other := range all {
			if other.dev == m.dev {
				found = append(found, fmt.Sprintf("%s in another mount namespace (%s, pid %s)", other.dir, program(proc), filepath.Base(proc)))
			}
		}
	}
	return found, nil
}

// heldBy returns the files of m that a process uses, as paths below its
// directory; the directory itself is ".".
func (m mount) heldBy(proc string) []string {
	var files []string
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return nil // ended, or another user's
	}
	for _, fd := range fds {
		if id, ok := mountID(filepath.Join(proc, "fdinfo", fd.Name())); ok && id == m.id {
			files = append(files, m.below(filepath.Join(proc, "fd", fd.Name())))
		}
	}
	for _, link := range []string{"cwd", "root", "exe"} {
		if id, ok := linkMountID(filepath.Join(proc, link)); ok && id == m.id {
			files = append(files, m.below(filepath.Join(proc, link)))
		}
	}
	return append(files, m.mappedBy(proc)...)
}

// below returns where the magic link points, as a path below the mount.
func (m mount) below(link string) string {
	target, err := os.Readlink(link)
	if err != nil {
		return "a file"
	}
	if target == m.dir {
		return "."
	}
	return strings.TrimPrefix(target, m.dir+"/")
}

// mappedBy returns the files of m in the process's memory map: a mapping
// outlives the descriptor it was made from.
func (m mount) mappedBy(proc string) []string {
	f, err := os.Open(filepath.Join(proc, "maps"))
	if err != nil {
		return nil
	}
	defer f.Close()
	var files []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// address perms offset dev inode path (proc_pid_maps(5))
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || !sameDevice(m.dev, fields[3]) {
			continue
		}
		path := strings.Join(fields[5:], " ")
		files = append(files, strings.TrimPrefix(path, m.dir+"/"))
	}
	return files
}

// sameDevice compares a device of mountinfo, major:minor in decimal, with one
// of maps, in hex.
func sameDevice(decimal, hex string) bool {
	parse := func(s string, base int) (uint64, error) {
		major, minor, ok := strings.Cut(s, ":")
		ma, err1 := strconv.ParseUint(major, base, 32)
		mi, err2 := strconv.ParseUint(minor, base, 32)
		if !ok {
			return 0, strconv.ErrSyntax
		}
		return ma<<32 | mi, errors.Join(err1, err2)
	}
	a, err1 := parse(decimal, 10)
	b, err2 := parse(hex, 16)
	return err1 == nil && err2 == nil && a == b
}

// mountID reads the mount a descriptor belongs to from its fdinfo.
func mountID(fdinfo string) (int, bool) {
	b, err := os.ReadFile(fdinfo)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id, err := strconv.Atoi(strings.TrimSpace(value))
			return id, err == nil
		}
	}
	return 0, false
}

// linkMountID is mountID of what a magic link of /proc points to. O_PATH does
// not ask the filesystem.
func linkMountID(link string) (int, bool) {
	fd, err := unix.Open(link, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	return mountID(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
}

// program is the name of the program a process runs.
func program(proc string) string {
	b, err := os.ReadFile(filepath.Join(proc, "comm"))
	if err != nil {
		return "ended"
	}
	return strings.TrimSpace(string(b))
}
