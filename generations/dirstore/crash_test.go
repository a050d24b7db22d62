package dirstore_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/walback/walback/generations/dirstore"
	"github.com/walback/walback/generations/storetest"
)

// writerDir in the environment makes the test program write objects there until
// it is killed.
const writerDir = "WALBACK_TEST_WRITER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		fmt.Println(writeForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForEver puts objects and tells each key on standard output afterwards.
func writeForEver(dir string) error {
	s, err := dirstore.New(dir, dirstore.Options{Create: true})
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		key := fmt.Sprintf("%d/%d/%d", os.Getpid(), n/5, n)
		if err := s.Put(context.Background(), key, storetest.Body(crashContent(key))); err != nil {
			return err
		}
		fmt.Println(key)
	}
}

func crashContent(key string) []byte { return bytes.Repeat([]byte(key+"\n"), 20_000) }

// TestKilled kills a writer again and again: what it said was put is there, and
// whatever is listed is whole.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	told := map[string]bool{}
	for round := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if !strings.HasPrefix(lines.Text(), fmt.Sprint(cmd.Process.Pid, "/")) {
				t.Fatal(lines.Text())
			}
			told[lines.Text()] = true
			if n == round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the writer ended by itself")
		}
	}
	s := open(t, dir, dirstore.Options{})
	for _, key := range keys(t, s) {
		b, err := s.Get(t.Context(), key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		b.Close()
		if err != nil || !bytes.Equal(got, crashContent(key)) {
			t.Errorf("%s has %d bytes, %v", key, len(got), err)
		}
		delete(told, key)
	}
	if len(told) > 0 {
		t.Errorf("put and gone: %v", told)
	}
}
