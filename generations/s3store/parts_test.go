package s3store_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/s3store"
	"github.com/walback/walback/generations/storetest"
)

// The requests of an upload in parts, in their order.
var uploadRequests = map[string]func(r *http.Request) bool{
	"create":   func(r *http.Request) bool { return r.Method == "POST" && r.URL.Query().Has("uploads") },
	"part":     func(r *http.Request) bool { return r.Method == "PUT" && r.URL.Query().Get("partNumber") == "2" },
	"complete": func(r *http.Request) bool { return r.Method == "POST" && r.URL.Query().Has("uploadId") },
}

// TestFaultyUpload puts an object in three parts while one of the requests goes
// wrong once.
func TestFaultyUpload(t *testing.T) {
	g := storetest.Versitygw(t)
	data := bytes.Repeat([]byte("0123456789a"), 1<<20) // 11 MiB, three parts
	for _, c := range []struct {
		name   string
		fault  storetest.Fault
		exists bool // for the last request: the answer may be ErrExists, since it was carried out
	}{
		{"slow down", storetest.Fault{Status: 503, Code: "SlowDown"}, false},
		{"conflict", storetest.Fault{Status: 409, Code: "ConditionalRequestConflict"}, false},
		{"gone", storetest.Fault{Status: 404, Code: "NoSuchUpload"}, false},
		{"lost", storetest.Fault{After: storetest.ErrInjected}, true},
	} {
		for which, match := range uploadRequests {
			if c.fault.Status == 404 && which == "create" {
				continue
			}
			t.Run(c.name+"/"+which, func(t *testing.T) {
				var hit atomic.Bool
				o := options(g.Endpoint, g.Bucket, strings.ReplaceAll(t.Name(), " ", "-"))
				o.PartSize = 5 << 20
				o.HTTPClient = &http.Client{Transport: &storetest.Faults{Choose: func(n int, r *http.Request) storetest.Fault {
					if match(r) && hit.CompareAndSwap(false, true) {
						return c.fault
					}
					return storetest.Fault{}
				}}}
				s := open(t, o)
				err := s.Put(t.Context(), "object", storetest.Body(data))
				if which == "complete" && c.exists && err != nil {
					wantKind(t, err, generations.ErrExists)
				} else if err != nil {
					t.Fatal(err)
				}
				if !hit.Load() {
					t.Fatal("there was no such request")
				}
				wantObject(t, s, "object", data)
			})
		}
	}
}

// TestUploadCompletedTwice loses the reply to the last request on a server that
// has forgotten the upload when it is asked again.
func TestUploadCompletedTwice(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789a"), 1<<20) // 11 MiB, three parts
	lost := false
	s, log := faulty(t, func(o *s3store.Options) { o.PartSize = 5 << 20 }, func(n int, r *http.Request) storetest.Fault {
		if uploadRequests["complete"](r) && !lost {
			lost = true
			return storetest.Fault{After: storetest.ErrInjected}
		}
		return storetest.Fault{}
	})
	wantKind(t, s.Put(t.Context(), "object", storetest.Body(data)), generations.ErrExists)
	wantObject(t, s, "object", data)
	if !lost {
		t.Errorf("no request to complete: %q", log.Requests())
	}
}

// TestUploadTakenBack fails an upload for good: no object, and a request that
// takes back the parts, also when it was the caller who gave up.
func TestUploadTakenBack(t *testing.T) {
	data := make([]byte, 12<<20)
	for which, match := range uploadRequests {
		if which == "create" {
			continue
		}
		s, log := faulty(t, func(o *s3store.Options) { o.PartSize = 5 << 20 }, func(n int, r *http.Request) storetest.Fault {
			if match(r) {
				return storetest.Fault{Status: 403, Code: "AccessDenied"}
			}
			return storetest.Fault{}
		})
		wantKind(t, s.Put(t.Context(), "object", storetest.Body(data)), generations.ErrDenied)
		all := log.Requests()
		if last := all[len(all)-1]; !strings.HasPrefix(last, "DELETE /bucket/root/object?") || !strings.Contains(last, "uploadId=") {
			t.Errorf("%s: the last request is %s", which, last)
		}
		_, err := s.Get(t.Context(), "object", 0, -1)
		wantKind(t, err, generations.ErrNotFound)
	}
}

// TestUploadUnreadable puts a large file that cannot be read to its end.
func TestUploadUnreadable(t *testing.T) {
	s, log := faulty(t, func(o *s3store.Options) { o.PartSize = 5 << 20 }, nil)
	f, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(12<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	err = s.Put(t.Context(), "object", io.NewSectionReader(f, 0, 12<<20))
	wantKind(t, err, nil)
	if !errors.Is(err, os.ErrClosed) || !strings.Contains(err.Error(), "reading what to put") {
		t.Errorf("got %v", err)
	}
	if all := log.Requests(); !strings.HasPrefix(all[len(all)-1], "DELETE ") {
		t.Errorf("the upload is not taken back: %q", all)
	}
}
