package s3store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/s3store"
	"github.com/walback/walback/generations/storetest"
)

// options are for a place in a server's bucket; failures are not waited for long.
func options(endpoint, bucket, prefix string) s3store.Options {
	return s3store.Options{Bucket: bucket, Prefix: prefix, Endpoint: endpoint, Pause: time.Millisecond}
}

func open(t *testing.T, o s3store.Options) *s3store.Store {
	t.Helper()
	s, err := s3store.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformanceVersitygw(t *testing.T) {
	g := storetest.Versitygw(t)
	n := 0
	storetest.Run(t, func(t *testing.T) generations.Store {
		n++
		return open(t, options(g.Endpoint, g.Bucket, fmt.Sprintf("databases/%d", n)))
	})
}

func TestConformanceFake(t *testing.T) {
	storetest.Run(t, func(t *testing.T) generations.Store {
		endpoint, bucket := storetest.FakeS3(t)
		o := options(endpoint, bucket, "")
		o.PartSize = 64 << 20 // it ignores If-None-Match when completing an upload in parts
		return open(t, o)
	})
}
