package live

import (
	"time"

	"golang.org/x/sys/unix"
)

// stamps tell whether anybody has written to the files of a database.
type stamps struct {
	File stamp `json:"file"`
	Log  stamp `json:"log,omitzero"` // zero: there is none
}

// stampsOf returns those of the main file with the attributes st, and of the log
// that is there.
func stampsOf(st *unix.Statx_t, log string) (stamps, error) {
	s := stamps{File: stampOf(st)}
	l, err := statAt(unix.AT_FDCWD, log)
	if isMissing(err) {
		return s, nil
	}
	if err != nil {
		return stamps{}, err
	}
	s.Log = stampOf(&l)
	return s, nil
}

// stampsAt is stampsOf for the main file that fd is.
func stampsAt(fd int, log string) (stamps, error) {
	st, err := statAt(fd, "")
	if err != nil {
		return stamps{}, err
	}
	return stampsOf(&st, log)
}

func (s stamps) hasLog() bool { return s.Log != stamp{} }

func (s stamps) settled(after time.Duration) bool {
	now := time.Now()
	return s.File.settled(now, after) && (!s.hasLog() || s.Log.settled(now, after))
}

// stamp tells a file from others and from what it was before it was written to.
type stamp struct {
	Inode uint64 `json:"inode"`
	Size  uint64 `json:"size"`
	Born  int64  `json:"born"` // this and the following in nanoseconds
	Mtime int64  `json:"mtime"`
	Ctime int64  `json:"ctime"`
}

func stampOf(st *unix.Statx_t) stamp {
	ns := func(t unix.StatxTimestamp) int64 { return t.Sec*int64(time.Second) + int64(t.Nsec) }
	return stamp{Inode: st.Ino, Size: st.Size, Born: ns(st.Btime), Mtime: ns(st.Mtime), Ctime: ns(st.Ctime)}
}

// settled reports whether who writes to the file from now on leaves other times.
func (s stamp) settled(now time.Time, after time.Duration) bool {
	newest := time.Unix(0, max(s.Mtime, s.Ctime))
	return !newest.After(now.Add(-after))
}
