package s3store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/s3store"
	"github.com/walback/walback/generations/storetest"
)

// faulty is a store on a server in this process, with one object "dir/there",
// whose requests go wrong as choose says, counted from the next one.
func faulty(t *testing.T, change func(*s3store.Options), choose func(n int, r *http.Request) storetest.Fault) (*s3store.Store, *storetest.Faults) {
	t.Helper()
	endpoint, bucket := storetest.FakeS3(t)
	o := options(endpoint, bucket, "root")
	o.Attempts = 3
	put(t, open(t, o), "dir/there", content)
	faults := &storetest.Faults{Choose: choose}
	o.HTTPClient = &http.Client{Transport: faults}
	if change != nil {
		change(&o)
	}
	return open(t, o), faults
}

var content = bytes.Repeat([]byte("content "), 1000)

func put(t *testing.T, s generations.Store, key string, data []byte) {
	t.Helper()
	if err := s.Put(t.Context(), key, storetest.Body(data)); err != nil {
		t.Fatal(err)
	}
}

func wantObject(t *testing.T, s generations.Store, key string, want []byte) {
	t.Helper()
	b, err := s.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s has %d bytes, %v; want %d", key, len(got), err, len(want))
	}
}

// operations are one call of each method, which fails unless it does what it should.
var operations = map[string]func(context.Context, generations.Store) error{
	"put": func(ctx context.Context, s generations.Store) error {
		return s.Put(ctx, "dir/new", storetest.Body(content))
	},
	"get": func(ctx context.Context, s generations.Store) error {
		b, err := s.Get(ctx, "dir/there", 8, 8)
		if err != nil {
			return err
		}
		defer b.Close()
		got, err := io.ReadAll(b)
		if err == nil && (string(got) != "content " || b.ObjectSize != int64(len(content))) {
			err = fmt.Errorf("got %q of %d bytes", got, b.ObjectSize)
		}
		return err
	},
	"list": func(ctx context.Context, s generations.Store) error {
		n := 0
		for e, err := range s.List(ctx, "dir/", "dir/a") {
			if err != nil {
				return err
			}
			if n++; e.Key != "dir/there" {
				return fmt.Errorf("listed %v", e)
			}
		}
		if n != 1 {
			return fmt.Errorf("listed %d objects", n)
		}
		return nil
	},
	"dirs": func(ctx context.Context, s generations.Store) error {
		var got []string
		for d, err := range s.Dirs(ctx, "") {
			if err != nil {
				return err
			}
			got = append(got, d)
		}
		if !slices.Equal(got, []string{"dir"}) {
			return fmt.Errorf("directories %q", got)
		}
		return nil
	},
	"delete": func(ctx context.Context, s generations.Store) error { return s.Delete(ctx, "dir/there") },
}

func TestPassingFaults(t *testing.T) {
	faults := map[string]storetest.Fault{
		"internal":    {Status: 500, Code: "InternalError"},
		"bad gateway": {Status: 502},
		"slow down":   {Status: 503, Code: "SlowDown"},
		"unavailable": {Status: 503},
		"gateway":     {Status: 504},
		"too many":    {Status: 429},
		"timeout":     {Status: 400, Code: "RequestTimeout"},
		"timeout 408": {Status: 408},
		"conflict":    {Status: 409, Code: "ConditionalRequestConflict"},
		"aborted":     {Status: 409, Code: "OperationAborted"},
		"digest":      {Status: 400, Code: "BadDigest"},
		"clock":       {Status: 403, Code: "RequestTimeTooSkewed"},
		"refused":     {Before: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}},
		"reset":       {Before: &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}},
		"eof":         {Before: io.ErrUnexpectedEOF},
		"unknown":     {Before: storetest.ErrInjected},
		"hang":        {Hang: true},
	}
	for what, fault := range faults {
		for name, operation := range operations {
			t.Run(what+"/"+name, func(t *testing.T) {
				s, log := faulty(t, func(o *s3store.Options) {
					if fault.Hang {
						o.Stall = 100 * time.Millisecond
					}
				}, func(n int, r *http.Request) storetest.Fault {
					if n < 2 {
						return fault
					}
					return storetest.Fault{}
				})
				if err := operation(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				if n := len(log.Requests()); n != 3 {
					t.Errorf("%d requests, want 3: %q", n, log.Requests())
				}
			})
		}
	}
}

func TestLastingFaults(t *testing.T) {
	for _, c := range []struct {
		fault storetest.Fault
		only  string // operation, or any
		kind  error  // or nil: none of the kinds
		text  string
		tries int
	}{
		{storetest.Fault{Status: 403, Code: "AccessDenied"}, "", generations.ErrDenied, "permissions", 1},
		{storetest.Fault{Status: 403, Code: "InvalidAccessKeyId"}, "", generations.ErrDenied, "AWS_ACCESS_KEY_ID", 1},
		{storetest.Fault{Status: 403, Code: "SignatureDoesNotMatch"}, "", generations.ErrDenied, "AWS_SECRET_ACCESS_KEY", 1},
		{storetest.Fault{Status: 400, Code: "ExpiredToken"}, "", generations.ErrDenied, "ExpiredToken", 1},
		{storetest.Fault{Status: 403, Code: "RequestTimeTooSkewed"}, "", generations.ErrDenied, "clock", 3},
		{storetest.Fault{Status: 404, Code: "NoSuchBucket"}, "", generations.ErrNoBucket, "create it", 1},
		{storetest.Fault{Status: 404, Code: "NoSuchKey"}, "get", generations.ErrNotFound, "no such object", 1},
		{storetest.Fault{Status: 404, Code: "SomethingElse"}, "", nil, "answers 404 (SomethingElse: injected)", 1},
		{storetest.Fault{Status: 404}, "", nil, "answers 404", 1},
		{storetest.Fault{Status: 412, Code: "PreconditionFailed"}, "put", generations.ErrExists, "object exists", 1},
		{storetest.Fault{Status: 301, Code: "PermanentRedirect"}, "", nil, "region", 1},
		{storetest.Fault{Status: 400, Code: "AuthorizationHeaderMalformed"}, "", nil, "region", 1},
		{storetest.Fault{Status: 501, Code: "NotImplemented"}, "", nil, "does not implement", 1},
		{storetest.Fault{Status: 400, Code: "InvalidArgument"}, "", nil, "answers 400 (InvalidArgument: injected)", 1},
		{storetest.Fault{Status: 503, Code: "SlowDown"}, "", nil, "answers 503 (SlowDown: injected) (3 attempts)", 3},
		{storetest.Fault{Status: 409, Code: "ConditionalRequestConflict"}, "put", nil, "ConditionalRequestConflict", 3},
		{storetest.Fault{Before: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}, "", nil, "cannot reach", 3},
		{storetest.Fault{Hang: true}, "", nil, "nothing moved on the connection for 20ms (3 attempts)", 3},
	} {
		for name, operation := range operations {
			if c.only != "" && c.only != name {
				continue
			}
			t.Run(strings.Trim(c.fault.Code+c.text, "/")+"/"+name, func(t *testing.T) {
				s, log := faulty(t, func(o *s3store.Options) {
					if c.fault.Hang {
						o.Stall = 20 * time.Millisecond
					}
				}, func(int, *http.Request) storetest.Fault { return c.fault })
				err := operation(t.Context(), s)
				wantKind(t, err, c.kind)
				if !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "s3://bucket/root") {
					t.Errorf("error %q, want one line with %q and the place", err, c.text)
				}
				if c.fault.Before != nil && !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("the cause is lost: %v", err)
				}
				if n := len(log.Requests()); n != c.tries {
					t.Errorf("%d requests, want %d", n, c.tries)
				}
			})
		}
	}
}

// wantKind checks that err is of one kind and no other.
func wantKind(t *testing.T, err, kind error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, k := range []error{generations.ErrNotFound, generations.ErrExists, generations.ErrNoBucket, generations.ErrDenied} {
		if errors.Is(err, k) != (k == kind) {
			t.Fatalf("error %q (%T), want kind %v", err, err, kind)
		}
	}
}

// TestLostReply loses the reply to a request that the server has carried out.
func TestLostReply(t *testing.T) {
	for name, operation := range operations {
		t.Run(name, func(t *testing.T) {
			s, log := faulty(t, nil, func(n int, r *http.Request) storetest.Fault {
				if n == 0 {
					return storetest.Fault{After: storetest.ErrInjected}
				}
				return storetest.Fault{}
			})
			err := operation(t.Context(), s)
			if name == "put" {
				wantKind(t, err, generations.ErrExists)
				wantObject(t, s, "dir/new", content)
			} else if err != nil {
				t.Error(err)
			}
			if name != "put" && len(log.Requests()) != 2 {
				t.Errorf("requests %q, want 2", log.Requests())
			}
		})
	}
}

func TestCancelBetweenAttempts(t *testing.T) {
	for name, operation := range operations {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			s, _ := faulty(t, func(o *s3store.Options) { o.Pause = time.Hour }, func(int, *http.Request) storetest.Fault {
				time.AfterFunc(10*time.Millisecond, cancel)
				return storetest.Fault{Status: 503}
			})
			if err := operation(ctx, s); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestBrokenBody ends or freezes the replies to a GET at every eighth of the
// object: the body comes whole, from as many requests.
func TestBrokenBody(t *testing.T) {
	step := int64(len(content) / 8)
	for name, fault := range map[string]storetest.Fault{"cut": {Cut: step}, "frozen": {Freeze: step}} {
		t.Run(name, func(t *testing.T) {
			s, log := faulty(t, func(o *s3store.Options) { o.Stall = 50 * time.Millisecond },
				func(int, *http.Request) storetest.Fault { return fault })
			wantObject(t, s, "dir/there", content)
			if n := len(log.Requests()); n != 8 {
				t.Errorf("%d requests, want 8", n)
			}
		})
	}
}

func TestBodyNeverComes(t *testing.T) {
	s, log := faulty(t, nil, func(n int, r *http.Request) storetest.Fault {
		if n == 0 {
			return storetest.Fault{Cut: 100}
		}
		return storetest.Fault{Before: syscall.ECONNREFUSED}
	})
	b, err := s.Get(t.Context(), "dir/there", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	if !errors.Is(err, syscall.ECONNREFUSED) || len(got) != 100 {
		t.Errorf("read %d bytes, then %v", len(got), err)
	}
	if n := len(log.Requests()); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
}

// TestObjectReplaced continues a body from a server where somebody broke the
// rule that objects never change.
func TestObjectReplaced(t *testing.T) {
	var other *s3store.Store
	s, _ := faulty(t, nil, func(n int, r *http.Request) storetest.Fault {
		if n == 0 {
			return storetest.Fault{Cut: 100}
		}
		if err := other.Delete(r.Context(), "dir/there"); err != nil {
			t.Error(err)
		}
		if err := other.Put(r.Context(), "dir/there", storetest.Body(content[:5000])); err != nil {
			t.Error(err)
		}
		return storetest.Fault{}
	})
	u, err := generations.ParseURL(s.String())
	if err != nil {
		t.Fatal(err)
	}
	other = open(t, options(u.Endpoint, u.Bucket, u.Prefix))
	b, err := s.Get(t.Context(), "dir/there", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if got, err := io.ReadAll(b); err == nil || len(got) != 100 {
		t.Errorf("read %d bytes and %v of an object that was replaced", len(got), err)
	}
}
