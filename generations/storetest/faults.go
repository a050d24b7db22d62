package storetest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Fault is what happens to one request to an S3 server. The zero value is
// nothing.
type Fault struct {
	// Status is answered, with S3's error Code, in place of asking the server.
	Status int
	Code   string
	// Before is returned without asking the server.
	Before error
	// After is returned after the server has done what it was asked: its reply
	// is lost.
	After error
	// Cut, if positive, ends the reply's body with an error behind so many bytes.
	Cut int64
	// Freeze, if positive, lets the reply's body stand still behind so many
	// bytes until the request is given up.
	Freeze int64
	// Hang neither asks nor answers until the request is given up.
	Hang bool
	// Delay is waited before anything else happens, as if the server were far.
	Delay time.Duration
}

// Faults is an http.RoundTripper that makes requests go wrong. Use it as the
// Transport of the http.Client in s3store.Options.
type Faults struct {
	// Base sends the requests; nil is http.DefaultTransport.
	Base http.RoundTripper
	// Choose says what happens to a request, and is called for one at a time.
	// n counts the requests from 0 on.
	Choose func(n int, r *http.Request) Fault

	mu       sync.Mutex
	requests []string // method, path and query of every request; guarded by mu
}

// ErrInjected is what made up failures of the network match.
var ErrInjected = errors.New("injected failure of the network")

// Requests are the method, path and query of all requests so far.
func (f *Faults) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.requests...)
}

func (f *Faults) choose(r *http.Request) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.requests)
	f.requests = append(f.requests, r.Method+" "+r.URL.RequestURI())
	if f.Choose == nil {
		return Fault{}
	}
	return f.Choose(n, r)
}

// RoundTrip implements http.RoundTripper.
func (f *Faults) RoundTrip(r *http.Request) (*http.Response, error) {
	fault := f.choose(r)
	if fault.Delay > 0 {
		t := time.NewTimer(fault.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			return nil, errors.Join(r.Context().Err(), closeBody(r))
		}
	}
	switch {
	case fault.Hang:
		<-r.Context().Done()
		return nil, errors.Join(r.Context().Err(), closeBody(r))
	case fault.Before != nil:
		return nil, errors.Join(fault.Before, closeBody(r))
	case fault.Status != 0:
		if err := closeBody(r); err != nil {
			return nil, err
		}
		return refusal(r, fault), nil
	}
	base := f.Base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if fault.After != nil {
		_, err := io.Copy(io.Discard, resp.Body)
		return nil, errors.Join(fault.After, err, resp.Body.Close())
	}
	if fault.Cut > 0 {
		resp.Body = &cutBody{resp.Body, fault.Cut, nil}
	}
	if fault.Freeze > 0 {
		resp.Body = &cutBody{resp.Body, fault.Freeze, r.Context().Done()}
	}
	return resp, nil
}

// closeBody does what a RoundTripper owes to a request that it does not send.
func closeBody(r *http.Request) error {
	if r.Body == nil {
		return nil
	}
	return r.Body.Close()
}

// refusal is an answer as S3 gives it.
func refusal(r *http.Request, f Fault) *http.Response {
	body := ""
	if r.Method != http.MethodHead && f.Code != "" {
		body = fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>injected</Message></Error>", f.Code)
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", f.Status, http.StatusText(f.Status)), StatusCode: f.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header:        http.Header{"Content-Type": {"application/xml"}},
		ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
	}
}

// cutBody ends early.
type cutBody struct {
	io.ReadCloser
	left int64
	wait <-chan struct{} // before ending, if not nil
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		if b.wait != nil {
			<-b.wait
		}
		return 0, ErrInjected
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
