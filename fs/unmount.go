package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy is what a BusyError matches.
var ErrBusy = errors.New("in use")

// BusyError says what keeps a mount from being unmounted.
type BusyError struct {
	Dir string
	// Files tells who uses what: "app.db (sqlite3, pid 123)", with paths below Dir;
	// or where else it is mounted. It is empty when nobody was found, e.g. for lack of rights.
	Files []string
}

func (e *BusyError) Error() string {
	const shown = 3
	switch n := len(e.Files); {
	case n == 0:
		return e.Dir + ": in use, by whom is not to be seen"
	case n > shown:
		return fmt.Sprintf("%s: in use: %s and %d more", e.Dir, strings.Join(e.Files[:shown], ", "), n-shown)
	}
	return e.Dir + ": in use: " + strings.Join(e.Files, ", ")
}

// Is makes every BusyError match ErrBusy.
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// Unmount takes the tree down and returns when the last request is answered.
// While applications use it the error is a *BusyError and nothing has changed.
// It is a *BusyError too if another mount namespace, a container, still has it
// when ctx ends: there it goes on.
// It is no error when somebody else has unmounted it already.
func (s *Server) Unmount(ctx context.Context) error {
	mounted, over, err := s.mounted()
	switch {
	case err != nil:
		return err
	case over != "":
		return fmt.Errorf("%s: %s is mounted on top of it; unmount that first", s.dir, over)
	case mounted:
		if err := s.unmount(ctx); err != nil {
			return err
		}
	}
	return s.wait(ctx)
}

// unmount asks until the kernel agrees or a holder is found. A process that
// just ends may hold files for a moment without being found, and this process
// itself may, to ask who has a file locked.
func (s *Server) unmount(ctx context.Context) error {
	const attempts = 6
	for pause := 5 * time.Millisecond; ; pause *= 2 {
		err := unmountPath(ctx, s.dir, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("%s: unmounting: %w", s.dir, err)
		}
		files, err := holders(s.mount)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(files, heldByOthers) || pause > 5*time.Millisecond<<attempts {
			return &BusyError{Dir: s.dir, Files: files}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return &BusyError{Dir: s.dir}
		}
	}
}

// heldByOthers reports whether a file that holders tells of is not held by this
// process.
func heldByOthers(file string) bool { return !strings.HasSuffix(file, byProcess(os.Getpid())) }

// mounted reports whether s is still mounted, and what was mounted over it since.
func (s *Server) mounted() (mounted bool, over string, err error) {
	all, err := mounts()
	if err != nil {
		return false, "", err
	}
	for _, m := range all {
		switch {
		case m.id == s.mount.id && m.dir == s.dir:
			mounted = true
		case mounted && m.dir == s.dir:
			over = m.source
		}
	}
	return mounted, over, nil
}

// Detach takes the tree out of the directory at once. Applications that have
// files of it open go on using them, and it is served until they close them;
// Wait tells when. It is no error when it was unmounted already.
func (s *Server) Detach() error {
	mounted, over, err := s.mounted()
	switch {
	case err != nil:
		return err
	case over != "":
		return fmt.Errorf("%s: %s is mounted on top of it; unmount that first", s.dir, over)
	case !mounted:
		return nil
	}
	if err := detach(s.dir); err != nil {
		return fmt.Errorf("%s: detaching: %w", s.dir, err)
	}
	return nil
}

func detach(dir string) error {
	return unmountPath(context.Background(), dir, unix.MNT_DETACH)
}

// unmountPath unmounts what is mounted at dir: with umount(2) where that is
// permitted, otherwise with fusermount3, whose "busy" becomes EBUSY.
func unmountPath(ctx context.Context, dir string, flags int) error {
	err := unix.Unmount(dir, flags|unix.UMOUNT_NOFOLLOW)
	if !errors.Is(err, syscall.EPERM) {
		return err
	}
	bin, lookErr := exec.LookPath("fusermount3")
	if lookErr != nil {
		return fmt.Errorf("%w; it takes root or fusermount3, which is not installed (package fuse3)", err)
	}
	option := "-u"
	if flags&unix.MNT_DETACH != 0 {
		option = "-uz"
	}
	cmd := exec.CommandContext(ctx, bin, option, "--", dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(out))
	if strings.Contains(text, "busy") {
		return syscall.EBUSY
	}
	return fmt.Errorf("%w: %s", err, text)
}

// userAllowOther reports whether /etc/fuse.conf lets every user mount with
// allow_other.
func userAllowOther() bool {
	b, err := os.ReadFile("/etc/fuse.conf")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if strings.TrimSpace(line) == "user_allow_other" {
			return true
		}
	}
	return false
}
