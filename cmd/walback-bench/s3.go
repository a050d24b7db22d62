package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"sync/atomic"
	"time"
)

// s3 is an S3 server on this machine, and in front of it a proxy that counts
// what is asked of it.
type s3 struct {
	server *daemon
	proxy  *http.Server
	front  net.Listener

	gets, lists, bytes atomic.Int64
}

// requests is what was asked of an S3 server.
type requests struct {
	gets, lists int64
	bytes       int64 // of objects, sent
}

const bucket = "bucket"

// startS3 starts the server. Its credentials are put into the environment, for
// the processes that are started later.
func startS3(ctx context.Context, program string, at place) (*s3, error) {
	const access, secret = "walback-bench", "walback-bench-secret"
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
	} {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	meta := at.file("meta")
	for _, dir := range []string{meta, filepath.Join(at.store(), bucket)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &s3{}
	if s.server, err = startDaemon("", program, "--access", access, "--secret", secret, "--port", address, "--quiet",
		"posix", "--sidecar", meta, at.store()); err != nil {
		return nil, err
	}
	if err := s.server.until(ctx, func() (bool, error) { return answers(address), nil }); err != nil {
		return nil, err
	}
	return s, s.listen(address)
}

// freeAddress returns an address that nobody listened on a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func answers(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// listen puts the proxy in front of the server.
func (s *s3) listen(address string) (err error) {
	if s.front, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	to := &url.URL{Scheme: "http", Host: address}
	s.proxy = &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // which is signed
		},
		ModifyResponse: s.count,
	}}
	go s.proxy.Serve(s.front) // returns when stop closes it
	return nil
}

// count takes note of an answer.
func (s *s3) count(r *http.Response) error {
	if r.Request.Method != http.MethodGet {
		return nil
	}
	if r.Request.URL.Query().Has("list-type") {
		s.lists.Add(1)
		return nil
	}
	s.gets.Add(1)
	r.Body = &countedBody{r.Body, &s.bytes}
	return nil
}

// countedBody counts what is read of it.
type countedBody struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes.Add(int64(n))
	return n, err
}

// counted returns what was asked since it was called before.
func (s *s3) counted() requests {
	return requests{gets: s.gets.Swap(0), lists: s.lists.Swap(0), bytes: s.bytes.Swap(0)}
}

// url names what lies under a prefix of the bucket.
func (s *s3) url(prefix string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=http://%s&path-style=true", bucket, path.Join("databases", prefix), s.front.Addr())
}

func (s *s3) stop() error {
	err := s.proxy.Close()
	if e := s.server.stop(); err == nil {
		err = e
	}
	return err
}
