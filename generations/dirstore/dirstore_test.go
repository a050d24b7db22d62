package dirstore_test

import (
	"testing"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/dirstore"
	"github.com/walback/walback/generations/storetest"
)

func open(t *testing.T, o dirstore.Options) *dirstore.Store {
	t.Helper()
	s, err := dirstore.New(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) generations.Store { return open(t, dirstore.Options{}) })
}

func TestConformanceNoSync(t *testing.T) {
	storetest.Run(t, func(t *testing.T) generations.Store { return open(t, dirstore.Options{NoSync: true}) })
}
