package live

import (
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walback/walback/wal"
)

// endless is a sink that takes a base image in for ever.
type endless struct {
	Sink
	begun chan struct{}
}

func (s endless) Resume() (wal.Past, bool) { return wal.Past{}, false }

func (s endless) Begin(b wal.Base) error {
	close(s.begun)
	for {
		for _, err := range b.Pages {
			if err != nil {
				return err
			}
		}
	}
}

func (s endless) Ready() error { return nil }

func (s endless) Close() error { return nil }

// TestClosedWhileReading: whoever ends a mount before a base image is complete is
// told that nothing is recorded of that database.
func TestClosedWhileReading(t *testing.T) {
	dir := t.TempDir()
	db, err := sql.Open("sqlite3", filepath.Join(dir, "app.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"PRAGMA journal_mode = wal", "CREATE TABLE t(a)"} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	sink := endless{begun: make(chan struct{})}
	s := newSet(dir, func(string) (Sink, error) { return sink, nil }, time.Now, slog.New(slog.DiscardHandler))
	s.inGate = 0
	if err := s.takeInAll(""); err != nil {
		t.Fatal(err)
	}
	<-sink.begun
	if err := s.close(); !errors.Is(err, errUnread) || !strings.HasPrefix(err.Error(), "app.db: ") {
		t.Errorf("closed while a base image is being read: %v", err)
	}
}
