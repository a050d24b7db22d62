package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/mattn/go-sqlite3"
)

func TestHeaderErrors(t *testing.T) {
	_, log := busyLog(t, t.TempDir(), plain(4096), 1)
	good := log[:HeaderSize]
	h, err := ParseHeader(good)
	if err != nil || h.PageSize != 4096 {
		t.Fatalf("%+v, %v", h, err)
	}
	for n := range HeaderSize {
		if _, err := ParseHeader(good[:n]); !errors.Is(err, ErrNoLog) {
			t.Errorf("%d bytes: %v, want ErrNoLog", n, err)
		}
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[n] ^= 1 << bit
			if _, err := ParseHeader(bad); err == nil {
				t.Errorf("bit %d of byte %d flipped: no error", bit, n)
			} else if _, ok := errors.AsType[*FormatError](err); !ok {
				t.Errorf("bit %d of byte %d flipped: %v, want a *FormatError", bit, n, err)
			}
		}
	}
}

// ParseDatabaseHeader refuses what SQLite refuses, and nothing else. SQLite is
// asked about a database with each of the bytes that matter changed.
func TestDatabaseHeaderAsSQLiteReadsIt(t *testing.T) {
	dir := t.TempDir()
	for _, pageSize := range allPageSizes {
		d := newDatabase(t, t.TempDir(), plain(pageSize))
		d.checkpoint("TRUNCATE")
		d.close()
		good := d.file()
		h, err := ParseDatabaseHeader(good)
		if err != nil {
			t.Fatal(err)
		}
		if h.PageSize != pageSize || !h.WAL() || !h.SizeValid() || int(h.Size)*pageSize != len(good) {
			t.Errorf("%d bytes with pages of %d: %+v", len(good), pageSize, h)
		}
		if pageSize > 1024 {
			continue
		}
		for at := range 24 {
			for _, v := range []byte{0, 1, 2, 3, 4, 16, 32, 64, 128, 255} {
				b := bytes.Clone(good)
				b[at] = v
				_, err := ParseDatabaseHeader(b)
				if sqlite := opens(t, dir, b); (err == nil) != sqlite {
					t.Errorf("byte %d is %d: SQLite opens it: %v; %v", at, v, sqlite, err)
				}
			}
		}
		if _, err := ParseDatabaseHeader(good[:DatabaseHeaderSize-1]); err == nil {
			t.Error("99 bytes are a database header")
		}
	}
}

// opens reports whether SQLite takes b for a database, be it a damaged one.
func opens(t *testing.T, dir string, b []byte) bool {
	t.Helper()
	name := dir + "/header.sqlite"
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := (&sqlite3.SQLiteDriver{}).Open("file:" + name)
	if err == nil {
		defer c.Close()
		_, err = c.(*sqlite3.SQLiteConn).Exec("SELECT * FROM sqlite_schema", nil)
	}
	e, ok := errors.AsType[sqlite3.Error](err)
	return !(ok && e.Code == sqlite3.ErrNotADB)
}

func TestDatabaseHeaderFields(t *testing.T) {
	b := make([]byte, DatabaseHeaderSize)
	copy(b, "SQLite format 3\x00")
	copy(b[16:], []byte{0, 1, 1, 1, 7, 64, 32, 32})
	binary.BigEndian.PutUint32(b[24:], 5)
	binary.BigEndian.PutUint32(b[28:], 6)
	binary.BigEndian.PutUint32(b[92:], 4)
	h, err := ParseDatabaseHeader(b)
	want := DatabaseHeader{PageSize: 65536, Size: 6, WriteVersion: 1, ReadVersion: 1, Reserved: 7, ChangeCounter: 5, VersionValidFor: 4}
	if err != nil || h != want {
		t.Errorf("%+v, %v; want %+v", h, err, want)
	}
	if h.WAL() || h.SizeValid() {
		t.Error("a rollback-journal database of an old SQLite passes for a new one with a log")
	}
}
