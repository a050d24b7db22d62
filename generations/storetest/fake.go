package storetest

import (
	"net/http/httptest"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// FakeS3 serves an empty bucket from memory, in this process: quick, for tests
// of what happens around the requests. It checks no signatures. Credentials are
// put into the environment.
func FakeS3(t testing.TB) (endpoint, bucket string) {
	t.Helper()
	Credentials(t, "fake", "fake")
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(server.Close)
	return server.URL, "bucket"
}
