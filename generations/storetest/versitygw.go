package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/walback/walback/generations"
)

// Gateway is a running versitygw with one bucket.
type Gateway struct {
	Endpoint string // http://127.0.0.1:port
	Bucket   string
	Region   string
	// Access and Secret are in the environment already.
	Access, Secret string
	// Dir is where the server keeps what is in the bucket: an object is a file
	// there, so that tests can damage one.
	Dir string

	data string
}

// URL names a place in the gateway's bucket.
func (g *Gateway) URL(prefix string) generations.URL {
	return generations.URL{Scheme: "s3", Bucket: g.Bucket, Prefix: prefix, Endpoint: g.Endpoint, Region: g.Region}
}

// NewBucket makes another bucket.
func (g *Gateway) NewBucket(t testing.TB, name string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(g.data, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Versitygw starts a real S3 server on 127.0.0.1 and ends it with the test. Its
// credentials are put into the environment for the SDK's default chain, and
// whatever else the chain would look at is shut off. Without the program
// (./bin of the repository, then PATH) the test is skipped, unless
// WALBACK_REQUIRE_TOOLS is set.
func Versitygw(t testing.TB) *Gateway {
	t.Helper()
	g := &Gateway{Bucket: "bucket", Region: "us-east-1", Access: access, Secret: secret, data: t.TempDir()}
	g.Dir = filepath.Join(g.data, g.Bucket)
	program := tool(t, "versitygw")
	Environment(t)
	g.NewBucket(t, g.Bucket)
	meta := t.TempDir()
	for try := 1; ; try++ {
		addr := freeAddr(t)
		err := serve(t, addr, program, "--access", g.Access, "--secret", g.Secret, "--quiet", "--port", addr,
			"posix", "--sidecar", meta, g.data)
		if err == nil {
			g.Endpoint = "http://" + addr
			return g
		}
		if try == 3 {
			t.Fatal(err)
		}
	}
}

// What a gateway wants to be told.
const (
	access = "walback-test"
	secret = "walback-test-secret"
)

// Environment sets what Versitygw does, for a test whose subtests use gateways in
// parallel: these may not set anything.
func Environment(t testing.TB) {
	t.Helper()
	Credentials(t, access, secret)
}

// Credentials sets what the SDK's default chain finds, and nothing else.
func Credentials(t testing.TB, access, secret string) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID":           access,
		"AWS_SECRET_ACCESS_KEY":       secret,
		"AWS_SESSION_TOKEN":           "",
		"AWS_REGION":                  "us-east-1",
		"AWS_PROFILE":                 "",
		"AWS_ENDPOINT_URL":            "",
		"AWS_ENDPOINT_URL_S3":         "",
		"AWS_CONFIG_FILE":             os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_EC2_METADATA_DISABLED":   "true",
		"AWS_CA_BUNDLE":               "", // parsing one takes longer than most tests
	} {
		if os.Getenv(name) != value {
			t.Setenv(name, value)
		}
	}
}

// tool finds a program in ./bin of the repository or on PATH.
func tool(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("this test runs outside of the repository")
		}
		dir = filepath.Dir(dir)
	}
	if path := filepath.Join(dir, "bin", name); isProgram(path) {
		return path
	}
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	if os.Getenv("WALBACK_REQUIRE_TOOLS") != "" {
		t.Fatalf("%s is neither in %s nor on PATH", name, filepath.Join(dir, "bin"))
	}
	t.Skipf("%s is neither in %s nor on PATH", name, filepath.Join(dir, "bin"))
	return ""
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// freeAddr is an address that nobody listens on at the moment.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serve runs program until the test ends, and returns once it listens on addr.
func serve(t testing.TB, addr, program string, args ...string) error {
	t.Helper()
	var out lockedBuffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	exited := make(chan struct{})
	if err := start(cmd, exited); err != nil {
		return err
	}
	stop := func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
	}
	poll := time.NewTicker(5 * time.Millisecond) // a server has no way of telling that it listens
	defer poll.Stop()
	deadline := time.After(20 * time.Second)
	for {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			t.Cleanup(stop)
			return nil
		}
		select {
		case <-poll.C:
		case <-exited:
			return fmt.Errorf("%s ended: %s", program, out.String())
		case <-deadline:
			stop()
			return fmt.Errorf("%s does not listen on %s: %s", program, addr, out.String())
		}
	}
}

// start starts cmd and closes exited when it has ended. The goroutine stays on
// the thread that the kernel takes for the parent, whose end would end cmd.
func start(cmd *exec.Cmd, exited chan<- struct{}) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is told to end, with whatever status
			close(exited)
		}
	}()
	return <-started
}

// lockedBuffer is a buffer that a process writes while a test reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
