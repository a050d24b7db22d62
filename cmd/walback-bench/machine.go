package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is where and with what a run took place.
type machine struct {
	date     time.Time
	took     time.Duration
	kernel   string
	cpu      string
	memory   int64
	place    string // where the databases lay, and on what
	sync     float64
	load     string // of the machine, before
	versions []string
}

func (b *bench) machine() (m machine, err error) {
	m = machine{date: time.Now().UTC()}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, err
	}
	m.kernel = fmt.Sprintf("%s %s", field(name.Sysname), field(name.Release))
	m.cpu = fmt.Sprintf("%d × %s", runtime.NumCPU(), cpuModel())
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return m, err
	}
	m.memory = int64(info.Totalram) * int64(info.Unit)
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.load = strings.Join(strings.Fields(string(load))[:1], "")
	}
	if m.place, err = filesystem(b.dir); err != nil {
		return m, err
	}
	if m.sync, err = syncTime(b.dir); err != nil {
		return m, err
	}
	m.versions, err = b.versions()
	return m, err
}

func field(b [65]byte) string { return string(bytes.TrimRight(b[:], "\x00")) }

// cpuModel returns what /proc calls the processor.
func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}

// filesystem names the type of the filesystem that dir lies on.
func filesystem(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", err
	}
	names := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay"}
	if n, ok := names[int64(st.Type)]; ok {
		return n, nil
	}
	return fmt.Sprintf("filesystem %#x", st.Type), nil
}

// syncTime returns the median time of fsync after a small write.
func syncTime(dir string) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	var times []float64
	for range 50 {
		if _, err = f.Write(make([]byte, 4096)); err != nil {
			break
		}
		var t float64
		if t, err = timed(f.Sync); err != nil {
			break
		}
		times = append(times, t)
	}
	return median(times), errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// versions returns what ran.
func (b *bench) versions() ([]string, error) {
	lib, err := sqliteVersion()
	if err != nil {
		return nil, err
	}
	all := []string{"SQLite " + lib, runtime.Version()}
	ours, err := exec.Command(b.walback, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s version: %w", b.walback, err)
	}
	return append(all, string(bytes.TrimSpace(ours))), nil
}

// litestreamVersion returns which Litestream is measured beside.
func (b *bench) litestreamVersion() (string, error) {
	if b.litestream == "" {
		return "no Litestream (not found in bin or on PATH)", nil
	}
	theirs, err := exec.Command(b.litestream, "version").Output()
	if err != nil {
		return "", fmt.Errorf("%s version: %w", b.litestream, err)
	}
	return "Litestream " + string(bytes.TrimSpace(theirs)), nil
}

// write tells about the run, which was of what.
func (m machine) write(b *bytes.Buffer, what string) {
	fmt.Fprintf(b, "Written %s, %s, in %s. %s, %s, %s memory; %s, fsync %s; load %s when it began.\n%s.\n\n",
		m.date.Format("2006-01-02 15:04 MST"), what, m.took.Round(time.Second), m.kernel, m.cpu, mega(m.memory),
		m.place, duration(m.sync), m.load, strings.Join(m.versions, ", "))
}
