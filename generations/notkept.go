package generations

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/walback/walback/wal"
)

// firstKept is first of a generation of which something was pruned.
func (l lookup) firstKept(ctx context.Context, s *shelf) (wal.TxnInfo, bool, error) {
	if s.gone() {
		return wal.TxnInfo{}, false, nil
	}
	return l.byID(ctx, s, s.keptFrom(s.edition.First.ID))
}

// keptAt returns the transaction that i, an index or a time, means in s, of which
// something was pruned; false when it is of an older generation. What was pruned is
// an error, and so is a time at which it was the newest: another transaction is not
// passed off for it.
func (l lookup) keptAt(ctx context.Context, s *shelf, i Instant, now wal.Time) (wal.TxnInfo, bool, error) {
	began := s.edition.First
	if i.kind == instantTXID {
		switch {
		case i.txid < began.ID:
			return wal.TxnInfo{}, false, nil
		case s.gone() && i.txid <= s.edition.Through, !s.keeps(i.txid):
			return wal.TxnInfo{}, false, l.notKept(ctx, s, i, i.txid)
		}
		return l.byID(ctx, s, i.txid)
	}
	if i.time < began.Time {
		return wal.TxnInfo{}, false, nil
	}
	if s.gone() {
		return wal.TxnInfo{}, false, l.notKept(ctx, s, i, s.edition.Through)
	}
	txn, ok, err := l.byTime(ctx, s, i.time, now, true)
	if err != nil {
		return wal.TxnInfo{}, false, err
	}
	if !ok { // in front of all segments there may be a snapshot
		first, ok, err := l.firstKept(ctx, s)
		if err != nil || ok && first.Time <= i.time {
			return first, err == nil, err
		}
		return wal.TxnInfo{}, false, l.notKept(ctx, s, i, began.ID)
	}
	if !s.keeps(txn.ID) {
		return wal.TxnInfo{}, false, l.notKept(ctx, s, i, txn.ID)
	}
	return txn, true, nil
}

// notKept is the error for an instant whose transaction is id of s, or lies beside
// it, and was pruned.
func (l lookup) notKept(ctx context.Context, s *shelf, i Instant, id wal.TXID) error {
	before, hasBefore, err := l.keptBefore(ctx, s, id)
	if err != nil {
		return err
	}
	after, hasAfter, err := l.keptAfter(ctx, s, id)
	if err != nil {
		return err
	}
	e := s.edition
	what := fmt.Sprintf("%s as of %s is not kept: pruned on %s by %q", l.client, strings.TrimPrefix(i.String(), "@"), e.Pruned.Std().Format("2006-01-02"), e.Policy)
	if i.kind == instantTXID {
		what = fmt.Sprintf("transaction %d of %s is not kept: pruned on %s by %q", i.txid, l.client, e.Pruned.Std().Format("2006-01-02"), e.Policy)
	}
	near := func(t wal.TxnInfo) string { return fmt.Sprintf("%s (@%d)", t.Time, t.ID) }
	switch {
	case hasBefore && hasAfter:
		return tell(ErrNotKept, "%s; the nearest kept before is %s, after is %s", what, near(before), near(after))
	case hasBefore:
		return tell(ErrNotKept, "%s; the nearest kept before is %s, and none is after", what, near(before))
	case hasAfter:
		return tell(ErrNotKept, "%s; none is kept before, the nearest after is %s", what, near(after))
	}
	return tell(ErrNotKept, "%s", what)
}

// keptBefore returns the newest transaction in front of id, in s or an older
// generation, that can be looked at.
func (l lookup) keptBefore(ctx context.Context, s *shelf, id wal.TXID) (wal.TxnInfo, bool, error) {
	if !s.gone() {
		if kept := s.keptUpTo(id - 1); kept != 0 {
			return l.byID(ctx, s, kept)
		}
	}
	for _, older := range slices.Backward(l.listing.generations) {
		if older.id >= s.id || older.gone() {
			continue
		}
		if txn, ok, err := l.newest(ctx, older); err != nil || ok {
			return txn, ok, err
		}
	}
	return wal.TxnInfo{}, false, nil
}

// keptAfter returns the oldest transaction behind id, in s or a newer generation,
// that can be looked at.
func (l lookup) keptAfter(ctx context.Context, s *shelf, id wal.TXID) (wal.TxnInfo, bool, error) {
	if !s.gone() {
		txn, ok, err := l.byID(ctx, s, s.keptFrom(id+1))
		if err != nil || ok {
			return txn, ok, err
		}
	}
	for _, newer := range l.listing.generations {
		if newer.id <= s.id || newer.gone() {
			continue
		}
		if txn, ok, err := l.first(ctx, newer); err != nil || ok {
			return txn, ok, err
		}
	}
	return wal.TxnInfo{}, false, nil
}
