package generations

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSparing: what is written in the background leaves applications space.
func TestSparing(t *testing.T) {
	dir := t.TempDir()
	const disk = 16 << 20
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,mode=755")
	if errors.Is(err, unix.EPERM) {
		t.Skip("only root can mount a small filesystem")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s, err := OpenSpool(dir, "file:///store")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	file, err := s.create()
	if err != nil {
		t.Fatal(err)
	}
	f := &sparing{spoolFile: file}
	for err == nil {
		_, err = f.Write(make([]byte, 48<<10))
	}
	if !errors.Is(err, ErrSpoolFull) {
		t.Errorf("%v, want that the spool is full", err)
	}
	if f.written < disk/2 {
		t.Errorf("only %d bytes could be written to a disk of %d", f.written, disk)
	}
	if _, free, err := s.disk(); err != nil || free < disk/100 {
		t.Errorf("%d bytes are left, %v", free, err)
	}
	if err := f.drop(); err != nil {
		t.Error(err)
	}
}
