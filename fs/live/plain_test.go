package live

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Scripts run on a plain directory and on the mount; what they print must be
// the same, line by line. Everything a shell user does to files is in here.
var scripts = map[string]string{
	"modes": `
		umask 022; touch a; mkdir d; mkfifo p; ln -s a l
		umask 077; touch b; mkdir e; mkfifo q
		umask 000; touch c; mkdir f; mkfifo r; (umask 002; mkdir -m 1777 g)
		chmod 000 a; chmod 6751 c; chmod u+s,g+s f; show *`,
	"set-group-id directory": `
		mkdir d; chgrp 12345 d; chmod 2775 d; umask 007
		touch d/f; mkdir d/sub; touch d/sub/g; ln -s f d/l; show d d/* d/sub/*`,
	"links": `
		echo one >a; ln a b; ln b c; rm a; cat b; echo two >>c; cat b; show *
		ln b b; ln nothing x; mkdir d; ln d e; ln -s /nowhere dangling; ln -P dangling again; show *
		ln dangling/x y`,
	"rename": `
		echo a >a; echo b >b; mkdir d e; echo x >e/x
		mv a d/a; mv -n d/a b; cat b; mv -T d e; mv e/x d/; mv -T e d; mv b d/a; cat d/a; mv nothing x
		mv d d/below; ls -R`,
	"directories": `
		mkdir a a/b a/b/c; rmdir a; rmdir a/b/c; mkdir a; rmdir nothing; touch f; rmdir f; rm a; mkdir f/x
		(cd a/b; rmdir ../b; touch x; ls -la); ls -R; mkdir ""`,
	"sizes": `
		printf 0123456789 >f; truncate -s 4 f; cat f; echo; truncate -s 20 f; od -c f
		exec 3<>f; truncate -s 0 f; printf x >&3; od -c f; exec 3>&-; : >f; show f
		fallocate -l 8192 f; show f; fallocate -p -o 0 -l 4096 f; show f; fallocate -n -l 100000 f; show f
		truncate -s 16M sparse; printf end | dd of=sparse bs=1 seek=5000000 conv=notrunc status=none
		cp --sparse=auto sparse copy; cmp sparse copy && show copy`,
	"append": `
		printf a >>f; printf b >>f; (printf c; printf d) >>f; cat f; echo
		for i in 1 2 3 4; do (for j in 1 2 3 4 5 6 7 8 9; do echo "$i $j" >>f; done) & done; wait; wc -l <f`,
	"times": `
		touch -d '2001-02-03 04:05:06.123456789Z' f; stat -c %y f
		touch -m -d '1999-01-01Z' f; touch -a -d '2030-01-01Z' f; stat -c '%x %y' f
		mkdir d; touch -d 2000-01-01Z d; stat -c %y d; ln -s f l; touch -h -d 2010-10-10Z l; stat -c %y l f
		cp -p f g; stat -c %y g`,
	"deleted but open": `
		echo hello >f; exec 3<>f; rm f; cat <&3; echo more >&3; cat /proc/self/fd/3; stat -L -c '%s %h %a' /proc/self/fd/3
		chmod 640 /proc/self/fd/3; truncate -s 3 /proc/self/fd/3; stat -L -c '%s %h %a' /proc/self/fd/3
		echo new >f; cat f; cat /proc/self/fd/3; exec 3>&-; cat f`,
	"replaced but open": `
		echo old >f; exec 3<f; echo new >g; mv g f; cat <&3; cat /proc/self/fd/3; cat f; show f; exec 3<&-`,
	"locks": `
		exec 3>f; flock -n 3 && echo locked; flock -n f -c 'echo twice' || echo refused
		exec 3>&-; flock -n f -c 'echo free'`,
	"names": `
		touch "$(printf 'a b\tc\nd')" é '*' -- -n; ls -b; touch ./-wal ./-shm ./-journal x-wal; ls -b
		touch "$(printf %0255d 1)"; touch "$(printf %0256d 1)" 2>/dev/null || echo too long; ls | wc -l`,
	"exclusive creation": `
		set -C; echo 1 >f; echo 2 >f; cat f`,
	"programs": `
		printf '#!/bin/sh\necho "run as $1"\n' >run; ./run x; chmod +x run; ./run x; cp /bin/true t; ./t && echo true
		mkdir bin; cd bin; cp ../run .; PATH=$PWD:$PATH run here`,
}

// header is what every script may use: attributes without those that differ
// between any two directories.
const header = `
	exec 2>&1; export LC_ALL=C; cd "$1" || exit; umask 022
	show() { stat -c '%N %A %u %g %h %s' "$@"; }
`

func TestAsPlainDirectory(t *testing.T) {
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			for _, uid := range []int{0, 65534} {
				compareWithPlain(t, uid, script)
			}
		})
	}
}

// compareWithPlain runs script as the user uid in a plain directory and in a
// mount of another, and compares what is printed, and what is left behind.
func compareWithPlain(t *testing.T, uid int, script string) {
	t.Helper()
	needFUSE(t)
	top := openToAll(t)
	plain, dir := filepath.Join(top, "plain"), filepath.Join(top, "mount")
	for _, d := range []string{plain, dir} {
		if err := os.Mkdir(d, 0755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(d, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	f := mountAt(t, dir, Options{AllowOther: true}, nil)
	want, got := shell(t, uid, script, plain), shell(t, uid, script, dir)
	if got != want {
		t.Errorf("as user %d, plain directory:\n%s\nmount:\n%s", uid, want, got)
	}
	if want == "" {
		t.Error("the script printed nothing")
	}
	const list = `find . -printf '%p %M %U %G %n %l ' -type f -printf %s -o -printf '\n' | sort`
	served := shell(t, 0, list, dir)
	unmount(t, f)
	if left := shell(t, 0, list, dir); left != served {
		t.Errorf("as user %d, mounted:\n%s\nafterwards:\n%s", uid, served, left)
	}
}

// shell returns what script prints when the user uid runs it in dir.
func shell(t *testing.T, uid int, script, dir string) string {
	t.Helper()
	args := []string{"sh", "-c", header + script, "sh", dir}
	if uid != 0 {
		id := fmt.Sprint(uid)
		args = append([]string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups"}, args...)
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), dir, "DIR")
}

// openToAll returns a new directory that every user can reach.
func openToAll(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	for d := top; d != filepath.Clean(os.TempDir()) && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0755); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

// The kernel keeps users apart by owner and mode, on the mount as on a plain
// directory; without AllowOther it lets nobody else in at all.
func TestOtherUsers(t *testing.T) {
	needFUSE(t)
	const nobody = 65534
	top := openToAll(t)
	plain, dir := filepath.Join(top, "plain"), filepath.Join(top, "mount")
	for _, d := range []string{plain, dir} {
		if err := os.Mkdir(d, 0755); err != nil {
			t.Fatal(err)
		}
	}
	seed := `mkdir private open; mkdir -m 1777 shared; chmod 700 private; echo secret >private/f
		echo mine >open/f; chmod 666 open/f; echo mine >open/hidden; chmod 600 open/hidden; echo root >shared/f; echo seeded`
	probe := `
		ls private; cat private/f; cat open/hidden; echo x >>open/f; cat open/f; touch open/new; mkdir open/d; rm open/f
		echo x >>shared/f; rm shared/f; mv shared/f shared/g; touch shared/mine; show shared/mine; rm shared/mine
		chmod 777 open/f; chown 65534 open/f; touch -d 2000-01-01 open/f; truncate -s 0 open/hidden; ln open/hidden shared/h`
	f := mountAt(t, dir, Options{AllowOther: true}, nil)
	for _, d := range []string{plain, dir} {
		if out := shell(t, 0, seed, d); !strings.HasSuffix(out, "seeded\n") {
			t.Fatal(out)
		}
	}
	want, got := shell(t, nobody, probe, plain), shell(t, nobody, probe, dir)
	if got != want || !strings.Contains(want, "Permission denied") {
		t.Errorf("plain directory:\n%s\nmount:\n%s", want, got)
	}
	unmount(t, f)
	mountAt(t, dir, Options{}, nil)
	if got := shell(t, nobody, `ls mount`, top); !strings.Contains(got, "Permission denied") {
		t.Errorf("without AllowOther another user gets %q", got)
	}
}

// A write by anybody but root takes set-user-id bits away.
func TestWriteDropsSetID(t *testing.T) {
	for _, change := range []string{
		`printf x >>f`, `: >f`, `truncate -s 1 f`, `fallocate -l 10 f`, `printf y | dd of=f conv=notrunc status=none`,
	} {
		script := `cp /bin/true f; chmod 6777 f; stat -c %a f; ` + change + `; stat -c %a f`
		for _, uid := range []int{0, 65534} {
			compareWithPlain(t, uid, script)
		}
	}
}

// RENAME_EXCHANGE, RENAME_NOREPLACE, O_TMPFILE with a later link, and extended
// attributes have no shell commands everywhere.
func TestSystemCalls(t *testing.T) {
	dir, _ := mounted(t, Options{}, nil)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "1")
	write(t, b, "2")
	for _, c := range []struct {
		flags uint
		want  error
		a, b  string
	}{
		{unix.RENAME_NOREPLACE, unix.EEXIST, "1", "2"},
		{unix.RENAME_EXCHANGE, nil, "2", "1"},
		{unix.RENAME_EXCHANGE, nil, "1", "2"},
		{unix.RENAME_WHITEOUT, unix.EINVAL, "1", "2"},
	} {
		if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, c.flags); err != c.want {
			t.Errorf("renameat2 with flags %d: %v, want %v", c.flags, err, c.want)
		}
		if gotA, gotB := read(t, a), read(t, b); gotA != c.a || gotB != c.b {
			t.Errorf("after flags %d: %q and %q", c.flags, gotA, gotB)
		}
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0640)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte("nameless")); err != nil {
		t.Error(err)
	}
	named := filepath.Join(dir, "named")
	if err := unix.Linkat(unix.AT_FDCWD, procPath(fd), unix.AT_FDCWD, named, unix.AT_SYMLINK_FOLLOW); err != nil {
		t.Errorf("linking an O_TMPFILE: %v", err)
	} else if got := read(t, named); got != "nameless" {
		t.Errorf("the linked file has %q", got)
	}
	if err := unix.Setxattr(named, "user.note", []byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if n, err := unix.Getxattr(named, "user.note", buf); err != nil || string(buf[:n]) != "kept" {
		t.Errorf("xattr: %q, %v", buf[:max(n, 0)], err)
	}
}

// A name and what it leads to belong together however fast names change: who
// opens a file gets its content, not that of the file which has its name by then.
func TestOpenWhileRenaming(t *testing.T) {
	dir, _ := mounted(t, Options{}, nil)
	names := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	inode := func(f *os.File) string {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			t.Error(err)
		}
		return fmt.Sprint(st.Ino)
	}
	for _, name := range names {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(inode(f))
		f.Close()
	}
	var g errgroup.Group
	done := make(chan struct{})
	g.Go(func() error {
		defer close(done)
		for range 2000 {
			if err := unix.Renameat2(unix.AT_FDCWD, names[0], unix.AT_FDCWD, names[1], unix.RENAME_EXCHANGE); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		for i := 0; ; i++ {
			select {
			case <-done:
				return nil
			default:
			}
			// Direct reads come from the backing file, not from what is cached.
			f, err := os.OpenFile(names[i%2], os.O_RDONLY|unix.O_DIRECT, 0)
			if err != nil {
				return err
			}
			content, err := io.ReadAll(f)
			if want := inode(f); err == nil && string(content) != want {
				err = fmt.Errorf("file %s has the content of %s", want, content)
			}
			f.Close()
			if err != nil {
				return err
			}
		}
	})
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// copy_file_range copies; into a log the daemon is told what.
func TestCopyFileRange(t *testing.T) {
	rec := &observer{}
	dir, _ := mounted(t, Options{}, rec.start)
	write(t, filepath.Join(dir, "from"), strings.Repeat("0123456789", 10000))
	for _, name := range []string{"to", "to-wal"} {
		from, err := os.Open(filepath.Join(dir, "from"))
		if err != nil {
			t.Fatal(err)
		}
		to, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		n, err := unix.CopyFileRange(int(from.Fd()), nil, int(to.Fd()), nil, 100000, 0)
		if err != nil || n != 100000 {
			t.Errorf("%s: copied %d, %v", name, n, err)
		}
		from.Close()
		to.Close()
		if read(t, filepath.Join(dir, name)) != read(t, filepath.Join(dir, "from")) {
			t.Errorf("%s differs", name)
		}
	}
	if got := rec.written("to-wal"); got != 100000 {
		t.Errorf("the watcher saw %d bytes of the log being written, want 100000", got)
	}
	if !rec.saw("to", opChange) {
		t.Error("the watcher was not asked before the copy into a plain file")
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
