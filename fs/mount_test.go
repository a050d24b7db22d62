package fs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// Variables of the environment that make something else of the test program:
// asDaemon mounts the directory it names, asMapper maps the file it names, both
// until standard input ends.
const (
	asDaemon = "WALBACK_TEST_MOUNT"
	asMapper = "WALBACK_TEST_MAP"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(asDaemon); dir != "" {
		daemon(dir)
		return
	}
	if file := os.Getenv(asMapper); file != "" {
		mapper(file)
		return
	}
	goleak.VerifyTestMain(m)
}

// daemon is the child process of tests that need another one to mount. It
// prints one line: "mounted" and as what, or why not.
func daemon(dir string) {
	s, err := Mount(dir, &tree{}, Options{Name: "child", AllowOther: os.Getenv("ALLOW_OTHER") != ""})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("mounted", s.mount.fstype, s.mount.source)
	bufio.NewReader(os.Stdin).ReadString('\n')
	if err := s.Unmount(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("unmounted")
}

// mapper keeps a file mapped and no descriptor of it. (The mount's own process
// must not map one of its files.)
func mapper(file string) {
	f, err := os.Open(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, 5, unix.PROT_READ, unix.MAP_PRIVATE)
	f.Close()
	fmt.Printf("%s %v\n", mapped, err)
	bufio.NewReader(os.Stdin).ReadString('\n')
}

// tree is a directory with one file, "file", that reads "hello".
type tree struct{ gofs.Inode }

func (t *tree) OnAdd(ctx context.Context) {
	file := &gofs.MemRegularFile{Data: []byte("hello"), Attr: fuse.Attr{Mode: 0644}}
	t.AddChild("file", t.NewPersistentInode(ctx, file, gofs.StableAttr{}), true)
}

func (t *tree) Getattr(ctx context.Context, f gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0755
	return 0
}

func needFUSE(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		t.Skip("no /dev/fuse: ", err)
	}
}

// mountpoint returns a directory, and takes down whatever is left mounted on it
// when the test ends.
func mountpoint(t *testing.T) string {
	t.Helper()
	needFUSE(t)
	dir := filepath.Join(t.TempDir(), "mount point") // the kernel mangles a space
	if err := os.Mkdir(dir, 0755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for unix.Unmount(dir, unix.MNT_DETACH) == nil {
			t.Errorf("%s was left mounted", dir)
		}
	})
	return dir
}

func mounted(t *testing.T, dir string, o Options) *Server {
	t.Helper()
	o.InProcess = true
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := Mount(dir, &tree{}, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func unmount(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Unmount(ctx); err != nil {
		t.Fatal(err)
	}
}

// child is a process of a test.
type child struct {
	*exec.Cmd
	out *bufio.Reader
	in  interface{ Close() error }
}

// start runs cmd and returns after its first line of output, which it returns.
func start(t *testing.T, cmd *exec.Cmd) (*child, string) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: cmd, out: bufio.NewReader(out), in: in}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return c, c.line(t)
}

func (c *child) line(t *testing.T) string {
	t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	return strings.TrimSpace(line)
}

// end closes the child's input and waits for it.
func (c *child) end(t *testing.T) {
	t.Helper()
	c.in.Close()
	c.Wait()
}

func daemonCommand(dir string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), append(env, asDaemon+"="+dir)...)
	return cmd
}

func TestMountIsListed(t *testing.T) {
	dir := mountpoint(t)
	for kind, want := range map[Kind]string{Live: "fuse.walback", History: "fuse.walback-history"} {
		s := mounted(t, dir, Options{Kind: kind, Name: "file:///a store, with commas"})
		all, err := Mounts()
		if err != nil {
			t.Fatal(err)
		}
		info := MountInfo{Dir: dir, Source: "file:///a store, with commas", Type: want}
		if !slices.Contains(all, info) {
			t.Errorf("Mounts() = %v, want %v among them", all, info)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "file")); string(b) != "hello" {
			t.Errorf("reading: %q, %v", b, err)
		}
		unmount(t, s)
		if all, err := Mounts(); err != nil || slices.Contains(all, info) {
			t.Errorf("after unmounting, Mounts() = %v, %v", all, err)
		}
	}
}

func TestMountRefuses(t *testing.T) {
	dir := mountpoint(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0644); err != nil {
		t.Fatal(err)
	}
	s := mounted(t, dir, Options{Name: "file:///store"})
	defer unmount(t, s)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		filepath.Join(t.TempDir(), "none"): ErrNoDir,
		file:                               ErrNotDir,
		file + "/below":                    ErrNotDir,
		dir:                                ErrAlreadyMounted,
		link:                               ErrAlreadyMounted,
	} {
		second, err := Mount(path, &tree{}, Options{InProcess: true})
		if err == nil {
			unmount(t, second)
		}
		if !errors.Is(err, want) {
			t.Errorf("Mount(%s): %v, want %v", path, err, want)
			continue
		}
		if text := err.Error(); strings.Contains(text, "\n") || !strings.HasPrefix(text, "/") {
			t.Errorf("Mount(%s): %q is not one line that names the directory", path, text)
		}
	}
	if _, err := Mount(dir, &tree{}, Options{}); err == nil || !strings.Contains(err.Error(), "file:///store") {
		t.Errorf("the error does not say what is mounted: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	dir := mountpoint(t)
	s := mounted(t, dir, Options{Kind: History, ReadOnly: true})
	defer unmount(t, s)
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("creating a file: %v, want EROFS", err)
	}
}

// A daemon that was killed leaves a dead mount. The next one takes it down,
// also when several lie on top of each other.
func TestMountAfterKill(t *testing.T) {
	dir := mountpoint(t)
	c, line := start(t, daemonCommand(dir))
	if line != "mounted fuse.walback child" {
		t.Fatal(line)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); string(b) != "hello" {
		t.Fatalf("reading: %q, %v", b, err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	if _, err := os.ReadDir(dir); !errors.Is(err, syscall.ENOTCONN) {
		t.Fatalf("after kill -9: %v, want ENOTCONN", err)
	}
	s := mounted(t, dir, Options{})
	if b, err := os.ReadFile(filepath.Join(dir, "file")); string(b) != "hello" {
		t.Errorf("reading: %q, %v", b, err)
	}
	unmount(t, s)
	if _, ok, err := topMount(dir); ok || err != nil {
		t.Errorf("something is still mounted (%v)", err)
	}
}

// Somebody else's dead mount is not touched.
func TestPrepareLeavesOthersAlone(t *testing.T) {
	dir := mountpoint(t)
	other, err := gofs.Mount(dir, &tree{}, &gofs.Options{MountOptions: fuse.MountOptions{Name: "sshfs", DirectMount: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Unmount()
	got, err := Prepare(dir)
	if err != nil || got != dir {
		t.Errorf("Prepare: %q, %v", got, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); string(b) != "hello" {
		t.Errorf("reading: %q, %v", b, err)
	}
}

// An ordinary user mounts and unmounts with fusermount3. It is done in a mount
// namespace where /dev/fuse is open to everybody, as it is on most machines.
func TestMountAsUser(t *testing.T) {
	dir := mountpoint(t)
	for _, program := range []string{"setpriv", "unshare", "fusermount3"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("no mount namespace to be had (in a chroot, for one): %v: %s", err, out)
	}
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0755); err != nil {
			t.Fatal(err)
		}
	}
	// The test binary lies where others may not go.
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(filepath.Dir(dir), "walback-test")
	if out, err := exec.Command("cp", binary, self).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	asNobody := func(mode string, env ...string) *exec.Cmd {
		cmd := daemonCommand(dir, env...)
		cmd.Path = "/bin/sh"
		cmd.Args = []string{"sh", "-c", `
			exec unshare --mount sh -ec '
				mknod -m "$1" "$2.fuse" c 10 229
				mount --bind "$2.fuse" /dev/fuse
				rm "$2.fuse"
				exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$2"
			' sh "$1" "$2"`, "sh", mode, self}
		return cmd
	}
	if _, line := start(t, asNobody("600")); !strings.Contains(line, ErrNotPermitted.Error()+": this user may not open /dev/fuse") {
		t.Errorf("without a right to /dev/fuse: %q", line)
	}
	if _, line := start(t, asNobody("666")); !strings.Contains(line, "may write to") {
		t.Errorf("on another user's directory: %q", line)
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, line := start(t, asNobody("666", "ALLOW_OTHER=1")); !userAllowOther() && !strings.HasSuffix(line, ErrNoAllowOther.Error()) {
		t.Errorf("with allow_other: %q", line)
	}
	c, line := start(t, asNobody("666"))
	if line != "mounted fuse.walback child" {
		t.Fatal(line)
	}
	c.in.Close()
	if line := c.line(t); line != "unmounted" {
		t.Error(line)
	}
}
