package s3store_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/s3store"
	"github.com/walback/walback/generations/storetest"
)

// TestRefused asks a real server what it does not give.
func TestRefused(t *testing.T) {
	g := storetest.Versitygw(t)
	for _, c := range []struct {
		name, access, secret, bucket string
		kind                         error
		text                         string
	}{
		{"wrong secret", g.Access, "wrong", g.Bucket, generations.ErrDenied, "SignatureDoesNotMatch"},
		{"unknown key", "nobody", g.Secret, g.Bucket, generations.ErrDenied, "the credentials are refused"},
		{"no credentials", "", "", g.Bucket, generations.ErrDenied, "no credentials: set AWS_ACCESS_KEY_ID"},
		{"no bucket", g.Access, g.Secret, "no-such-bucket", generations.ErrNoBucket, "no such bucket: create it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			storetest.Credentials(t, c.access, c.secret)
			s := open(t, options(g.Endpoint, c.bucket, "root"))
			for name, operation := range operations {
				err := operation(t.Context(), s)
				wantKind(t, err, c.kind)
				if !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + l.Addr().String()
	l.Close()
	storetest.Credentials(t, "a", "b")
	s := open(t, options(endpoint, "bucket", ""))
	for _, operation := range operations {
		err := operation(t.Context(), s)
		wantKind(t, err, nil)
		if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "cannot reach "+endpoint) {
			t.Errorf("got %v", err)
		}
	}
}

// TestCertificate meets a server whose certificate nobody vouches for, and then
// one that AWS_CA_BUNDLE vouches for.
func TestCertificate(t *testing.T) {
	storetest.Credentials(t, "a", "b")
	var asked atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	err := open(t, options(server.URL, "bucket", "")).Delete(t.Context(), "k")
	wantKind(t, err, nil)
	if !strings.Contains(err.Error(), "AWS_CA_BUNDLE") || asked.Load() != 0 {
		t.Errorf("%d requests, %v", asked.Load(), err)
	}

	bundle := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	o := options(server.URL, "bucket", "")
	if err := open(t, o).Delete(t.Context(), "k"); err != nil {
		t.Error(err)
	}
	o.HTTPClient = server.Client()
	if err := open(t, o).Delete(t.Context(), "k"); err != nil {
		t.Errorf("with a client of our own: %v", err)
	}
}

func TestRegion(t *testing.T) {
	storetest.Credentials(t, "a", "b")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	_, err := s3store.New(t.Context(), s3store.Options{Bucket: "bucket"})
	if err == nil || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("without region or endpoint: %v", err)
	}
	for _, o := range []s3store.Options{
		{Bucket: "bucket", Region: "eu-west-1"},
		{Bucket: "bucket", Endpoint: "http://127.0.0.1:1"},
	} {
		if _, err := s3store.New(t.Context(), o); err != nil {
			t.Error(err)
		}
	}
}

// TestAddress looks at where requests go.
func TestAddress(t *testing.T) {
	for _, c := range []struct {
		style                           generations.PathStyle
		endpoint, environment, url, own string
	}{
		{generations.PathStyleAuto, "", "", "https://bucket.s3.us-east-1.amazonaws.com/k", ""},
		{generations.PathStyleOn, "", "", "https://s3.us-east-1.amazonaws.com/bucket/k", "?path-style=true"},
		{generations.PathStyleAuto, "http://host:7070", "", "http://host:7070/bucket/k", "?endpoint=http://host:7070"},
		{generations.PathStyleOff, "http://host:7070", "", "http://bucket.host:7070/k", "?endpoint=http://host:7070&path-style=false"},
		{generations.PathStyleAuto, "", "http://host:7071", "http://host:7071/bucket/k", ""},
		{generations.PathStyleAuto, "http://host:7070", "http://host:7071", "http://host:7070/bucket/k", "?endpoint=http://host:7070"},
	} {
		storetest.Credentials(t, "a", "b")
		t.Setenv("AWS_ENDPOINT_URL", c.environment)
		var got string
		s := open(t, s3store.Options{Bucket: "bucket", Endpoint: c.endpoint, PathStyle: c.style,
			HTTPClient: &http.Client{Transport: &storetest.Faults{Choose: func(n int, r *http.Request) storetest.Fault {
				u := *r.URL
				u.RawQuery = ""
				got = u.String()
				return storetest.Fault{Status: http.StatusNoContent}
			}}}})
		if err := s.Delete(t.Context(), "k"); err != nil {
			t.Error(err)
		}
		if got != c.url {
			t.Errorf("%+v: request to %s", c, got)
		}
		if want := "s3://bucket" + c.own; s.String() != want {
			t.Errorf("the store calls itself %s, want %s", s, want)
		}
	}
}

// TestStrangeRanges meets servers that answer with other bytes than asked for.
func TestStrangeRanges(t *testing.T) {
	storetest.Credentials(t, "a", "b")
	object := []byte("0123456789")
	for _, c := range []struct {
		name         string
		contentRange string
		status       int
		body         string
		off, n       int64
		want         string // or an error if empty
	}{
		{"ignores ranges, from 0", "", 200, string(object), 0, 4, "0123"},
		{"ignores ranges, all of the end", "", 200, string(object), -20, -1, "0123456789"},
		{"ignores ranges, later", "", 200, string(object), 4, 4, ""},
		{"other range", "bytes 2-5/10", 206, "2345", 4, 4, ""},
		{"no size", "bytes 4-7/*", 206, "4567", 4, 4, ""},
		{"nonsense", "4-7/10", 206, "4567", 4, 4, ""},
		{"size before the range", "bytes 4-7/3", 206, "4567", 4, 4, ""},
		{"negative", "bytes -4-7/10", 206, "4567", 4, 4, ""},
		{"as asked", "bytes 4-7/10", 206, "4567", 4, 4, "4567"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.contentRange != "" {
					w.Header().Set("Content-Range", c.contentRange)
				}
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			}))
			defer server.Close()
			b, err := open(t, options(server.URL, "bucket", "")).Get(t.Context(), "k", c.off, c.n)
			if err != nil {
				if c.want != "" {
					t.Error(err)
				}
				return
			}
			defer b.Close()
			got, err := io.ReadAll(b)
			if string(got) != c.want || err != nil || b.ObjectSize != 10 {
				t.Errorf("got %q of %d, %v", got, b.ObjectSize, err)
			}
		})
	}
}

func TestClosedBody(t *testing.T) {
	s, _ := faulty(t, nil, nil)
	b, err := s.Get(context.Background(), "dir/there", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read of a closed body: %v", err)
	}
}

// TestListBehind lists the end of many objects: one request, whatever lies in
// front.
func TestListBehind(t *testing.T) {
	s, log := faulty(t, nil, nil)
	for i := range 30 {
		put(t, s, fmt.Sprintf("many/%02d", i), nil)
	}
	before := len(log.Requests())
	n := 0
	for e, err := range s.List(t.Context(), "many/", "many/27") {
		if n++; err != nil || e.Key != fmt.Sprintf("many/%02d", 27+n) {
			t.Fatal(e, err)
		}
	}
	requests := log.Requests()[before:]
	if n != 2 || len(requests) != 1 || !strings.Contains(requests[0], "start-after=root%2Fmany%2F27") {
		t.Errorf("%d objects by %q", n, requests)
	}
	for e, err := range s.List(t.Context(), "many/", "n") {
		t.Error(e, err)
	}
	if len(log.Requests()) != before+1 {
		t.Error("asked for what cannot be")
	}
}
