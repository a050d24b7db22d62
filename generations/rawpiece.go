package generations

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// rawPiece is a piece as it is at first: a copy of that part of the log where the
// pages of its transactions lie, and which is where (see appendRawHead). A gate
// waits for it, and it takes a fraction of the time that a pack takes. The segment
// is made of it directly. When somebody wants to read the piece before that, or the
// process was killed, it becomes a pack.
type rawPiece struct {
	Object
	path string
	txns []*wal.Txn // Source is nil; frames are where they are in the copy
	base int64      // where that begins in the file
	size int64

	mu      sync.Mutex // held while the file becomes a pack, or goes
	gone    bool
	readers int // who have the file open
}

// rawPieces are those of a spool.
type rawPieces struct {
	mu    sync.Mutex
	of    map[string]map[string]*rawPiece // by client and key
	bytes map[string]int64                // by client
}

// maxRawPieces is how many bytes of a client's pieces are raw at most. More of
// them wait for a store that is down: they are made ready to be read, so that a
// restart need not.
const maxRawPieces = 64 << 20

// find returns the raw piece with a key; nil when there is none.
func (r *rawPieces) find(client, key string) *rawPiece {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[client][key]
}

// all returns those of a client.
func (r *rawPieces) all(client string) (all []*rawPiece) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.of[client] {
		all = append(all, p)
	}
	return all
}

// clients returns those that have any.
func (r *rawPieces) clients() map[string]struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]struct{}, len(r.of))
	for client := range r.of {
		all[client] = struct{}{}
	}
	return all
}

func (r *rawPieces) add(p *rawPiece) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of, r.bytes = make(map[string]map[string]*rawPiece), make(map[string]int64)
	}
	if r.of[p.Client] == nil {
		r.of[p.Client] = make(map[string]*rawPiece)
	}
	r.of[p.Client][p.Key()] = p
	r.bytes[p.Client] += p.size
}

func (r *rawPieces) drop(p *rawPiece) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of[p.Client], p.Key())
	r.bytes[p.Client] -= p.size
	if len(r.of[p.Client]) == 0 {
		delete(r.of, p.Client)
		delete(r.bytes, p.Client)
	}
}

// spanOf returns from where to where the pages of txns lie in the one log that has
// them all; false when there is no such log, or most of that is something else.
func spanOf(txns []*wal.Txn) (log *os.File, span run, ok bool) {
	log, ok = txns[0].Source.(*os.File)
	if !ok {
		return nil, run{}, false
	}
	var from, to, raw int64
	for _, t := range txns {
		if t.Source != txns[0].Source {
			return nil, run{}, false
		}
		for _, f := range t.Frames {
			if raw == 0 || f.Off < from {
				from = f.Off
			}
			to = max(to, f.Off+int64(t.PageSize))
			raw += int64(t.PageSize)
		}
	}
	return log, run{from, to - from}, raw > 0 && to-from <= min(2*raw, spanSize)
}

// writeRawPiece saves txns as a raw piece; false when it cannot be one.
func (s *Spool) writeRawPiece(o Object, txns []*wal.Txn) (piece, bool, error) {
	log, span, ok := spanOf(txns)
	if !ok {
		return piece{}, false, nil
	}
	s.raws.mu.Lock()
	full := s.raws.bytes[o.Client]+span.length > maxRawPieces
	s.raws.mu.Unlock()
	if full {
		return piece{}, false, nil
	}
	f, err := s.createRaw()
	if err != nil {
		return piece{}, false, err
	}
	p := &rawPiece{Object: o, txns: moved(txns, span.off)}
	head := appendRawHead(nil, p)
	p.base = int64(len(head))
	p.size = p.base + span.length
	p.path = f.Name()
	// The head comes last: without it, the file of a killed process is no piece.
	if err = copyTo(f, p.base, log, span); err == nil {
		_, err = f.WriteAt(head, 0)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return piece{}, false, fmt.Errorf("spool: %w", errors.Join(err, os.Remove(p.path)))
	}
	s.raws.add(p)
	return p.piece(), true, nil
}

// piece returns what must be known of p.
func (p *rawPiece) piece() piece {
	q := piece{Object: p.Object, size: p.size, head: p.txns[0].TxnInfo}
	for _, t := range p.txns {
		q.raw += rawBytes(t)
	}
	return q
}

// moved returns txns with their frames so much further in front, in no file.
func moved(txns []*wal.Txn, by int64) []*wal.Txn {
	all := make([]*wal.Txn, len(txns))
	for i, t := range txns {
		c := *t
		c.Source = nil
		c.Frames = slices.Clone(t.Frames)
		for j := range c.Frames {
			c.Frames[j].Off -= by
		}
		all[i] = &c
	}
	return all
}

// copyTo copies a part of a file, of spanSize at most, to another one.
func copyTo(to *os.File, at int64, from *os.File, part run) error {
	span := spans.Get().(*[spanSize]byte)
	defer spans.Put(span)
	if n, err := from.ReadAt(span[:part.length], part.off); int64(n) < part.length {
		return fmt.Errorf("reading the log: %w", err)
	}
	_, err := to.WriteAt(span[:part.length], at)
	return err
}

// open returns the transactions of p, in its file, which has to be given back to
// close.
func (p *rawPiece) open() ([]*wal.Txn, *os.File, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil, nil, fmt.Errorf("spool: %s: %w", p.Key(), fs.ErrNotExist)
	}
	f, err := os.Open(p.path)
	if err != nil {
		return nil, nil, fmt.Errorf("spool: %w", err)
	}
	p.readers++
	txns := make([]*wal.Txn, len(p.txns))
	for i, t := range p.txns {
		c := *t
		c.Source = offsetFile{f, p.base}
		txns[i] = &c
	}
	return txns, f, nil
}

// close closes what open has returned.
func (p *rawPiece) close(f *os.File) {
	f.Close() // only read
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers--
}

// settle makes a pack of the piece with a key if it is a raw one.
func (s *Spool) settle(client, key string) error {
	p := s.raws.find(client, key)
	if p == nil {
		return nil
	}
	txns, f, err := p.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // by somebody else, or it was removed
	}
	if err != nil {
		return err
	}
	err = s.packOf(p, txns)
	p.close(f)
	return err
}

// packOf makes a pack of p, unless somebody else has.
func (s *Spool) packOf(p *rawPiece, txns []*wal.Txn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil
	}
	if _, err := s.writePack(p.Object, txns); err != nil {
		return err
	}
	return s.leave(p, 1)
}

// leave lets go of the file of a raw piece, which nobody reads but so many. Where
// others do, they keep it to its end. The caller holds p.mu.
func (s *Spool) leave(p *rawPiece, readers int) error {
	p.gone = true
	s.raws.drop(p)
	letGo := s.giveUp
	if p.readers > readers {
		letGo = os.Remove
	}
	if err := letGo(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// offsetFile is a file from an offset on.
type offsetFile struct {
	*os.File
	base int64
}

// ReadAt implements io.ReaderAt.
func (f offsetFile) ReadAt(p []byte, off int64) (int, error) { return f.File.ReadAt(p, f.base+off) }

// removeRaw removes a raw piece; false when it is none.
func (s *Spool) removeRaw(client, key string) (bool, error) {
	p := s.raws.find(client, key)
	if p == nil {
		return false, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return false, nil
	}
	return true, s.leave(p, 0)
}

// mergeRaw makes the segment o of raw pieces; false when not all of them are.
func (s *Spool) mergeRaw(o Object, pieces []piece) (segment, bool, error) {
	raws := make([]*rawPiece, len(pieces))
	for i, p := range pieces {
		if raws[i] = s.raws.find(p.Client, p.Key()); raws[i] == nil {
			return segment{}, false, nil
		}
	}
	var all []*wal.Txn
	var total int64
	for _, p := range raws {
		txns, f, err := p.open()
		if errors.Is(err, fs.ErrNotExist) {
			return segment{}, false, nil // a pack by now
		}
		if err != nil {
			return segment{}, false, err
		}
		defer p.close(f)
		all = append(all, txns...)
		total += p.size
	}
	seg, err := s.makeSegment(total, func(w io.Writer) (pack.Info, error) {
		pw := pack.NewWriter(w, pack.Segment, all[0].PageSize, o.Place(), pack.WriterOptions{})
		if _, err := writeTxns(pw, all); err != nil {
			return pack.Info{}, err
		}
		return pw.Info(), nil
	})
	if errors.Is(err, errOverwritten) {
		err = &pack.CorruptError{Place: o.Place(), What: err.Error()}
	}
	return seg, true, err
}

// recoverRaw makes packs of the raw pieces that a killed process has left. What a
// power failure has damaged is lost: the state file does not tell of it.
func (s *Spool) recoverRaw() error {
	left, err := os.ReadDir(s.rawDir())
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	slices.SortFunc(left, func(a, b fs.DirEntry) int { // the older ones first
		return cmp.Or(cmp.Compare(len(a.Name()), len(b.Name())), cmp.Compare(a.Name(), b.Name()))
	})
	for _, e := range left {
		path := filepath.Join(s.rawDir(), e.Name())
		if err := s.recoverOne(path); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("spool: %w", err)
		}
	}
	return nil
}

func (s *Spool) recoverOne(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := readRawHead(f, info.Size())
	if errors.Is(err, errNotRaw) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, t := range p.txns {
		t.Source = offsetFile{f, p.base}
	}
	if _, err = s.writePack(p.Object, p.txns); errors.Is(err, errOverwritten) {
		return nil
	}
	return err
}
