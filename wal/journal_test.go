package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
)

// hotJournal returns a database in the middle of a transaction, with the journal
// that takes it back; and the database as it was before.
func hotJournal(t tester, dir string, pageSize int) (before, during, journal []byte) {
	t.Helper()
	d := newDatabase(t, dir, settings{pageSize: pageSize})
	d.exec("WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<40) INSERT INTO t(v) SELECT randomblob(?) FROM n", int64(pageSize))
	d.close()
	d.conn = d.dial("PRAGMA journal_mode=DELETE", "PRAGMA cache_size=1")
	defer d.close()
	before = d.file()
	d.exec("BEGIN")
	d.exec("UPDATE t SET v=randomblob(?)", int64(pageSize)) // more than the cache holds
	during, journal = d.file(), readFile(t, d.path+"-journal")
	if bytes.Equal(before, during) {
		t.Fatal("the transaction has not written to the database")
	}
	return before, during, journal
}

// rolledBack reports whether SQLite plays a journal back that it finds beside a
// database.
func rolledBack(t tester, dir string, before, during, journal []byte) bool {
	t.Helper()
	d := &database{t: t, path: dir + "/hot.sqlite"}
	for name, b := range map[string][]byte{d.path: during, d.path + "-journal": journal} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := d.dial()
	defer d.close()
	if _, err := c.Exec("SELECT count(*) FROM t", nil); err != nil { // takes the lock that recovery needs
		t.Fatal(err)
	}
	return bytes.Equal(d.file(), before)
}

// ParseJournalHeader refuses the headers that keep SQLite from playing a journal
// back, and no others.
func TestJournalHeaderAsSQLiteReadsIt(t *testing.T) {
	for _, pageSize := range []int{512, 4096, 65536} {
		t.Run(fmt.Sprint(pageSize), func(t *testing.T) {
			before, during, journal := hotJournal(t, t.TempDir(), pageSize)
			h, err := ParseJournalHeader(journal)
			if err != nil {
				t.Fatal(err)
			}
			if h.PageSize != pageSize || int(h.Size)*pageSize != len(before) || h.Records == 0 {
				t.Errorf("%+v of a database of %d bytes, pages of %d", h, len(before), pageSize)
			}
			dir := t.TempDir()
			accepted := 0
			check := func(b []byte, what string, args ...any) {
				_, err := ParseJournalHeader(b)
				if sqlite := rolledBack(t, dir, before, during, b); (err == nil) != sqlite {
					t.Errorf("%s: SQLite plays it back: %v; %v", fmt.Sprintf(what, args...), sqlite, err)
				}
				if err == nil {
					accepted++
				} else if _, ok := errors.AsType[*FormatError](err); !ok {
					t.Errorf("%s: %v, want a *FormatError", fmt.Sprintf(what, args...), err)
				}
			}
			check(journal, "as it was")
			for at := range len(journalMagic) {
				b := bytes.Clone(journal)
				b[at] ^= 1
				check(b, "byte %d changed", at)
			}
			check(append(make([]byte, JournalHeaderSize), journal[JournalHeaderSize:]...), "ended by PERSIST")
			check(nil, "ended by TRUNCATE")
			sized := func(sector, page int) []byte {
				h := h
				h.SectorSize, h.PageSize = sector, page
				return append(h.Append(nil), journal[JournalHeaderSize:]...)
			}
			for _, page := range []int{0, 1, 256, pageSize - 1, pageSize + 1, 3 << 9, 1 << 17, -1} {
				check(sized(h.SectorSize, page), "pages of %d", page)
			}
			for _, sector := range []int{0, 1, 16, 31, 33, 500, 3 << 9, 1 << 17, -1} {
				check(sized(sector, pageSize), "sectors of %d", sector)
			}
			if accepted != 2 { // as it was, and without a page size
				t.Errorf("%d headers were accepted, want 2", accepted)
			}
		})
	}
}
