package generations_test

import (
	"testing"
	"time"

	"github.com/walback/walback/generations"
)

// From Append to the store's having it, for an isolated commit of one to four
// pages.
func BenchmarkIsolatedCommit(b *testing.B) {
	sp, err := generations.OpenSpool(b.TempDir(), testURL)
	if err != nil {
		b.Fatal(err)
	}
	m := newMemory()
	shipped := make(chan struct{}, 8)
	s := generations.NewShipper(m, sp, generations.ShipperOptions{
		Interval:  time.Nanosecond,
		OnShipped: func(string, generations.Object) { shipped <- struct{}{} },
	})
	w, err := s.Database(client, "db.sqlite")
	if err != nil {
		b.Fatal(err)
	}
	d := newDatabase(1, 4096)
	if err := w.Begin(d.base(false)); err != nil {
		b.Fatal(err)
	}
	<-shipped // the manifest
	<-shipped // the image
	for b.Loop() {
		d.history = d.history[len(d.history)-1:]
		w.Append(d.commit())
		<-shipped
	}
	if err := s.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if err := sp.Close(); err != nil {
		b.Fatal(err)
	}
}
