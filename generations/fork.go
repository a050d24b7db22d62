package generations

import (
	"errors"
	"fmt"

	"github.com/walback/walback/wal"
)

// Fork starts a new generation that goes on from the transaction from, one of
// Past.States, with first, which is on local disk when Fork returns. first has
// the index behind from, and a time later than any transaction that was
// appended before.
func (w *Writer) Fork(from wal.TXID, first *wal.Txn) error {
	return fmt.Errorf("%s: fork from transaction %d: %w", w.client, from, errors.ErrUnsupported)
}
