package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// s3 is an S3 server on this machine, and in front of it a proxy that counts
// what is asked of it, and can keep everybody waiting.
type s3 struct {
	server *daemon
	proxy  *http.Server
	front  net.Listener

	delay atomic.Int64 // nanoseconds, of every request

	mu    sync.Mutex
	seen  requests // since counted was called; guarded by mu
	spell int      // how often counted was called; guarded by mu
}

// requests is what was asked of an S3 server.
type requests struct {
	gets, lists, others int
	bytes               int64 // of objects, sent
	// trips is how many requests came one after the other, each when the one before
	// had been answered: so often a client had to wait, at most.
	trips int
	parts []part // that were sent
}

// part is a range of an object.
type part struct {
	path     string // of the URL
	from, to int64  // to is behind it
}

const (
	bucket      = "bucket"
	storePrefix = "databases" // below it the clients lie
)

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
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // which is signed
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0), // whoever asked goes away at times
	}
	s.proxy = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answered := s.asked(r)
		time.Sleep(time.Duration(s.delay.Load()))
		sent := &sending{ResponseWriter: w}
		defer func() { answered(sent) }() // ServeHTTP panics when whoever asked goes away
		pass.ServeHTTP(sent, r)
	})}
	go s.proxy.Serve(s.front) // returns when stop closes it
	return nil
}

// asked takes note of a request, and returns what takes note of the answer.
func (s *s3) asked(r *http.Request) (answered func(*sending)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object := false
	switch {
	case r.Method != http.MethodGet:
		s.seen.others++
	case r.URL.Query().Has("list-type"):
		s.seen.lists++
	default:
		s.seen.gets++
		object = true
	}
	trip, spell := s.seen.trips+1, s.spell
	return func(sent *sending) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if spell != s.spell {
			return
		}
		s.seen.trips = max(s.seen.trips, trip)
		if object {
			s.seen.bytes += sent.bytes
			s.seen.parts = append(s.seen.parts, part{path: r.URL.Path, from: sent.from, to: sent.from + sent.bytes})
		}
	}
}

// sending takes note of an answer.
type sending struct {
	http.ResponseWriter
	from  int64 // where in the object it begins
	bytes int64
}

func (w *sending) WriteHeader(status int) {
	// "bytes 0-99/1000", RFC 9110 §14.4; nothing of the kind is the whole object.
	if span, ok := strings.CutPrefix(w.Header().Get("Content-Range"), "bytes "); ok {
		first, _, _ := strings.Cut(span, "-")
		w.from, _ = strconv.ParseInt(first, 10, 64)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *sending) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets the proxy flush.
func (w *sending) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// counted returns what was asked since it was called before.
func (s *s3) counted() requests {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = requests{}
	s.spell++
	return seen
}

// url names what lies under a prefix of the bucket.
func (s *s3) url(prefix string) string {
	return fmt.Sprintf("s3://%s/%s?endpoint=http://%s&path-style=true", bucket, path.Join(storePrefix, prefix), s.front.Addr())
}

func (s *s3) stop() error {
	err := s.proxy.Close()
	if e := s.server.stop(); err == nil {
		err = e
	}
	return err
}
