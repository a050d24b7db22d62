package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/generations"
)

// user is somebody who is not root.
type user struct {
	name     string
	uid, gid int
	groups   []int // besides gid
}

// The files of these tests belong to the owner, and to the group 2000.
var (
	owner    = user{"the owner", 1000, 1000, nil}
	member   = user{"one of the group", 1001, 2000, nil}
	helper   = user{"one with the group besides", 1002, 1002, []int{7, 2000}}
	guest    = user{"one of the access list", 1003, 1003, nil}
	stranger = user{"a stranger", 1004, 1004, nil}
	users    = []user{owner, member, helper, guest, stranger}
)

const group = 2000

// as calls do on a thread that is this user's and ends with it.
func (u user) as(t *testing.T, do func()) {
	t.Helper()
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is of no use to others
		err := u.become()
		if err == nil {
			do()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatalf("becoming user %d: %v", u.uid, err)
	}
}

// become gives up every right of root's, on the current thread alone: that is
// what the system calls do, unlike the functions of the package syscall.
func (u user) become() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // for a umask of its own
		return err
	}
	groups := []uint32{uint32(u.gid)}
	for _, g := range u.groups {
		groups = append(groups, uint32(g))
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0); errno != 0 {
		return errno
	}
	for _, set := range []struct{ call, id int }{{unix.SYS_SETRESGID, u.gid}, {unix.SYS_SETRESUID, u.uid}} {
		if _, _, errno := unix.RawSyscall(uintptr(set.call), uintptr(set.id), uintptr(set.id), uintptr(set.id)); errno != 0 {
			return errno
		}
	}
	return nil
}

// credential is the same for a process.
func (u user) credential() *syscall.SysProcAttr {
	groups := []uint32{uint32(u.gid)}
	for _, g := range u.groups {
		groups = append(groups, uint32(g))
	}
	// No Pdeathsig: the kernel takes the thread for the parent, and as ends threads.
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid), Groups: groups}}
}

// needRoot skips a test that becomes other users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
}

// openToAll lets every user reach a directory below that of the tests.
func openToAll(t *testing.T, dir string) {
	t.Helper()
	for ; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// property is what is made for users to meddle with.
type property struct {
	name  string
	mode  uint32
	dir   bool
	entry []acl // with any, an access list; of a directory, the one of what is made in it
}

// acl is an entry of an access list (acl(5)), as in the extended attribute.
type acl struct {
	tag, perm uint16
	id        uint32
}

const anyID = ^uint32(0) // the id of entries that have none

// Of a guest who may write what others may not even read.
func listOf(guest int) []acl {
	return []acl{{1, 6, anyID}, {2, 6, uint32(guest)}, {4, 4, anyID}, {0x10, 6, anyID}, {0x20, 0, anyID}}
}

var properties = []property{
	{name: "f600", mode: 0o600}, {name: "f640", mode: 0o640}, {name: "f644", mode: 0o644}, {name: "f660", mode: 0o660},
	{name: "f666", mode: 0o666}, {name: "f400", mode: 0o400}, {name: "f060", mode: 0o060}, {name: "f000", mode: 0o000},
	{name: "flist", mode: 0o660, entry: listOf(guest.uid)},
	{name: "d700", mode: 0o700, dir: true}, {name: "d750", mode: 0o750, dir: true}, {name: "d755", mode: 0o755, dir: true},
	{name: "d770", mode: 0o770, dir: true}, {name: "d711", mode: 0o711, dir: true}, {name: "d744", mode: 0o744, dir: true},
	{name: "d777", mode: 0o777, dir: true}, {name: "sticky", mode: 0o1777, dir: true}, {name: "setgid", mode: 0o2777, dir: true},
	{name: "dlist", mode: 0o777, dir: true, entry: listOf(guest.uid)},
}

// furnish makes the properties in dir.
func furnish(t *testing.T, dir string) {
	t.Helper()
	for _, p := range properties {
		name := filepath.Join(dir, p.name)
		err := error(nil)
		if p.dir {
			err = errors.Join(os.Mkdir(name, 0o755), os.WriteFile(name+"/file", []byte("content"), 0o644), os.Chown(name+"/file", owner.uid, group))
		} else {
			err = os.WriteFile(name, []byte("content"), 0o600)
		}
		err = errors.Join(err, os.Chown(name, owner.uid, group), unix.Chmod(name, p.mode))
		if p.entry != nil {
			list := map[bool]string{false: "system.posix_acl_access", true: "system.posix_acl_default"}[p.dir]
			err = errors.Join(err, unix.Setxattr(name, list, encodeList(p.entry), 0))
		}
		if errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("the files of this test lie on a filesystem without access lists: ", err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func encodeList(entries []acl) []byte {
	text := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		text = binary.LittleEndian.AppendUint16(text, e.tag)
		text = binary.LittleEndian.AppendUint16(text, e.perm)
		text = binary.LittleEndian.AppendUint32(text, e.id)
	}
	return text
}

// meddle tries everything on a file or directory, and returns what came of it, a
// line each.
func (u user) meddle(p property, dir string) (told []string) {
	name := filepath.Join(dir, p.name)
	note := func(what string, err error) {
		errno, ok := errors.AsType[syscall.Errno](err)
		if err != nil && !ok {
			panic(err)
		}
		told = append(told, fmt.Sprintf("%s: %s of %s: %s%s", u.name, what, p.name, unix.ErrnoName(errno), statText(name)))
	}
	open := func(name string, flags int) error {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC, 0o666)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}
	note("reading", open(name, unix.O_RDONLY))
	note("access for writing", unix.Access(name, unix.W_OK))
	note("changing the mode", unix.Chmod(name, p.mode))
	note("giving it away", unix.Chown(name, u.uid, -1))
	note("giving it to the group besides", unix.Chown(name, -1, group))
	note("setting times", unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{{Sec: 1}, {Sec: 1}}, 0))
	note("touching", unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}, 0))
	note("setting an attribute", unix.Setxattr(name, "user.by", []byte(u.name), 0))
	if !p.dir {
		note("writing", open(name, unix.O_WRONLY))
		note("truncating", unix.Truncate(name, 7))
		note("emptying", open(name, unix.O_RDWR|unix.O_TRUNC))
		note("linking", unix.Link(name, filepath.Join(dir, "d777", fmt.Sprint(u.uid, p.name))))
		return told
	}
	if p.entry != nil {
		// Where there is a default access list the umask does not count; in the mount
		// the kernel has applied it before it asks.
		defer unix.Umask(unix.Umask(0))
	}
	own := filepath.Join(name, fmt.Sprint(u.uid))
	for _, step := range []struct {
		what string
		err  error
	}{
		{"stat of a file", unix.Stat(name+"/file", &unix.Stat_t{})},
		{"reading a file", open(name+"/file", unix.O_RDONLY)},
		{"creating a file", open(own+"file", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL)},
		{"opening it again", open(own+"file", unix.O_RDWR|unix.O_CREAT)},
		{"making a directory", unix.Mkdir(own+"dir", 0o777)},
		{"making a link", unix.Symlink("file", own+"link")},
		{"making a pipe", unix.Mkfifo(own+"pipe", 0o666)},
		{"making a nameless file", open(name, unix.O_TMPFILE|unix.O_RDWR)},
		{"renaming a file", unix.Rename(name+"/file", name+"/renamed")},
		{"removing a file", unix.Unlink(name + "/renamed")},
		{"putting it back", open(name+"/file", unix.O_RDWR|unix.O_CREAT)},
	} {
		note(step.what, step.err)
	}
	for _, made := range []string{"file", "dir", "link", "pipe"} {
		told = append(told, fmt.Sprintf("%s: %s: %s", u.name, made, statText(own+made)))
	}
	return append(told, fmt.Sprintf("%s: file: %s", u.name, statText(name+"/file")))
}

// statText tells whose a file is.
func statText(name string) string {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return fmt.Sprintf(" (%v)", err)
	}
	return fmt.Sprintf(" (%o %d:%d %d)", st.Mode, st.Uid, st.Gid, st.Size)
}

// TestOtherUsers has other users do everything in a plain directory and in the
// mount: what they may, and whose the files are that they make, is the same.
func TestOtherUsers(t *testing.T) {
	needRoot(t)
	inModes(t, testOtherUsers)
}

func testOtherUsers(t *testing.T, m mode) {
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")}, "-allow-other")
	w.mode = m
	plain := t.TempDir()
	for _, dir := range []string{plain, w.dir} {
		openToAll(t, dir)
	}
	w.mount()
	var told [2][]string
	for i, dir := range []string{plain, w.dir} {
		furnish(t, dir)
		for _, u := range slices.Backward(users) {
			u.as(t, func() {
				for _, p := range properties {
					told[i] = append(told[i], u.meddle(p, dir)...)
				}
			})
		}
	}
	want, got := told[0], told[1]
	if len(got) != len(want) {
		t.Fatalf("%d answers in the mount, %d in a plain directory", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("plain directory: %s\n\tthe mount:       %s", want[i], got[i])
		}
	}
	// What a plain directory must say, so that the comparison means something.
	all := strings.Join(want, "\n")
	for _, line := range []string{
		"a stranger: reading of f640: EACCES (100640 1000:2000 7)",
		"one with the group besides: reading of f640:  (100640 1000:2000 7)",
		"one of the access list: writing of flist:  (100660 1000:2000",
		"a stranger: renaming a file of sticky: EPERM",
		"a stranger: file:  (100644 1004:2000 0)",
	} {
		if !strings.Contains(all, line) {
			t.Errorf("a plain directory does not say %q:\n%s", line, all)
		}
	}
	w.unmount()
}

// TestUsersShareDatabase has users of one group share a database that others
// cannot even read, in the mount and in the past, whose door is the directory
// that it is mounted on.
func TestUsersShareDatabase(t *testing.T) {
	needRoot(t)
	inModes(t, testUsersShareDatabase)
}

func testUsersShareDatabase(t *testing.T, m mode) {
	w := newWorld(t, generations.URL{Scheme: "file", Dir: filepath.Join(t.TempDir(), "store")}, "-allow-other")
	w.mode = m
	programs := programsForAll(t)
	openToAll(t, filepath.Dir(w.dir))
	for _, dir := range []string{w.dir, w.history} {
		if err := errors.Join(os.Chown(dir, owner.uid, group), unix.Chmod(dir, 0o2770)); err != nil {
			t.Fatal(err)
		}
	}
	w.mount()
	name := filepath.Join(w.dir, "app.db")
	wrap := func(u user) func(*exec.Cmd) {
		return func(cmd *exec.Cmd) {
			cmd.Path, cmd.Err = filepath.Join(programs, "speaker"), nil
			cmd.SysProcAttr = u.credential()
		}
	}
	one := speak(t, name, wrap(owner))
	one.want("wal", "PRAGMA journal_mode=wal")
	one.want("ok", "CREATE TABLE t(n)")
	one.want("ok", hangUp)
	if err := os.Chmod(name, 0o660); err != nil { // the next log gets the same mode
		t.Fatal(err)
	}
	one.want("ok", "INSERT INTO t VALUES(0)")
	other := speak(t, name, wrap(helper))
	last := share(one, other)
	if got, want := statText(name+"-shm"), fmt.Sprintf(" (100660 %d:%d 32768)", owner.uid, group); got != want {
		t.Errorf("the wal-index is %s, want %s", got, want)
	}
	w.wantIncrements("app.db", last)
	stranger.as(t, func() {
		for _, name := range []string{name, w.history, filepath.Join(w.history, "app.db"), filepath.Join(w.history, "app.db/latest/app.db")} {
			if _, err := os.Open(name); !errors.Is(err, unix.EACCES) {
				t.Errorf("a stranger opens %s: %v", name, err)
			}
		}
	})
	helper.as(t, func() {
		f, err := os.Open(filepath.Join(w.history, "app.db/latest/app.db"))
		if err != nil {
			t.Errorf("one of the group opens the past: %v", err)
			return
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	one.end()
	other.end()
	w.unmount()
}

// programsForAll returns a directory with copies of this program, which lies
// where others may not go.
func programsForAll(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	openToAll(t, dir)
	for _, name := range []string{"speaker", "walback"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "--reflink=auto", path, filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v: %s", err, out)
		}
	}
	return dir
}
