package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrMissed means that a log does not continue from where it was left: what was
// committed meanwhile cannot be known from it.
var ErrMissed = errors.New("transactions were missed")

// Commit is one transaction as the log has it.
type Commit struct {
	// Frames holds the last version of each page, ascending by page number, none
	// twice, none above Size. The slice belongs to whom the Commit was given to.
	Frames   []Frame
	Size     Pgno     // pages in the database after the transaction
	PageSize int      // bytes
	End      Position // behind the transaction
}

// Tracker finds out what has been committed to a log. Each Look re-reads the
// log from behind the last commit that was found, so it depends on nothing that
// happened to the file in between: SQLite overwrites frames of transactions that
// were not committed, and may do so while the Tracker looks.
//
// What has been overwritten cannot be found: before SQLite restarts a log, the
// Tracker must have looked. SQLite restarts a log once a checkpoint has copied
// all of it, and checkpoints truncate the database file before they are done
// with it; looking before that truncation is let through is enough.
//
// What SQLite itself would not find after a crash the Tracker does not find
// either. Up to some release between 3.40 and 3.54 SQLite writes a log like that
// when a transaction spills and overwrites frames, and is then rolled back to an
// earlier savepoint and committed: the first frames have no checksum, so from
// there on only the wal-index knows what is committed, until the log restarts.
//
// A Tracker holds no descriptor, and between looks no more than a kilobyte or two
// of memory. It is not safe for concurrent use.
type Tracker struct {
	pos Position
	// reset says that the log was truncated or removed since: whatever its
	// header is now, it was not missed.
	reset bool
	// copied is a position at which the log may be restarted unseen.
	copied Position

	// limit is what the wal-index says is committed, nil during a Look that goes
	// by the log alone.
	limit *IndexHeader

	head [HeaderSize]byte // last read; here because a local one would be allocated
	// spare is room for the frames of small transactions, so that not each
	// of them is an allocation. What has been given away is not in it.
	spare []Frame
}

// spareFrames is how many frames are allocated at once.
const spareFrames = 64

// NewTracker returns a Tracker that goes on from a position; from the zero
// Position, with the first frame of whatever log there is.
//
// The position must be of a log that was not restarted since; [Tracker.Check]
// proves it.
func NewTracker(from Position) *Tracker { return &Tracker{pos: from} }

// Position returns where the next Look begins: behind the last commit that was
// taken by emit. It is zero after Reset, and before there was a commit.
func (t *Tracker) Position() Position {
	if t.reset {
		return Position{}
	}
	return t.pos
}

// Reset tells the Tracker that the log was truncated or removed, after a Look
// that saw all there was. The log may then begin with any salts. If it turns out
// to be the old one nevertheless (it was truncated behind its last commit, or the
// truncation failed), the Tracker goes on in it where it was.
func (t *Tracker) Reset() { t.reset = !t.pos.IsZero() }

// Copied tells the Tracker that a checkpoint has copied all of the log to the
// database, after a Look that saw all there was. Unless something is committed
// behind the position first, the log may be restarted at any moment, and then it
// may begin with any salts: those that follow are chosen by the connection that
// restarts it, and if that one dies before it has written the header, the next one
// may choose others (walFrames: nCkpt==0).
func (t *Tracker) Copied() { t.copied = t.pos }

// Look calls emit for each transaction that was committed behind the position,
// in order, and moves the position behind it once emit has returned nil. It
// returns nil when it is at the end of what is committed: at the end of the log,
// at an unfinished or torn transaction, or when there is no log.
//
// When the log was restarted since, that is when Salt1 of its header is one more
// (modulo 2³²) than that of the position, or when the position is that of Copied,
// Look goes on with its first frame. An error that is ErrMissed says that it was
// restarted more than once or that the frame in front of the position is another
// one now; nothing can be known from this log then. An error from emit ends the Look and is returned as it is. Any
// other error is from reading the log.
//
// A transaction that only repeats the frame in front of it is not one: without
// powersafe overwrite (psow=0) SQLite pads the log to a sector boundary by
// repeating the commit frame. Such frames are passed over; no database
// differs by them.
//
// Memory is bounded by 256 KiB and 24 bytes for each frame of one transaction.
func (t *Tracker) Look(log io.ReaderAt, emit func(Commit) error) error {
	for {
		h, ok, err := t.readHeader(log)
		if err != nil || !ok {
			return err
		}
		from := h.start()
		switch {
		case t.pos.in(h):
			from, t.reset = t.pos, false
		case t.pos.IsZero() || t.reset || t.pos == t.copied && !t.pos.before(h):
		case t.pos.before(h):
			// Behind the frames of the new epoch the old ones are still there.
			if _, err := t.follow(log, t.pos, false, emit); err != nil {
				return err
			}
		default:
			return fmt.Errorf("the log's salts are %08x %08x and were %08x %08x: %w",
				h.Salt1, h.Salt2, t.pos.Salt1, t.pos.Salt2, ErrMissed)
		}
		linked, err := t.follow(log, from, true, emit)
		if linked || err != nil {
			return err
		}
		// The log may have been restarted since its header was read.
		if again, ok, err := t.readHeader(log); err != nil || !ok {
			return err
		} else if again == h {
			return fmt.Errorf("frame %d of the log is not the one that was captured: %w", from.Frames, ErrMissed)
		}
	}
}

// LookTo is Look, but goes no further than the wal-index says: what else is in
// the log nobody has learnt of yet, and maybe nobody ever will. An error that is
// ErrMissed also says that the log was overwritten in front of the position.
func (t *Tracker) LookTo(log io.ReaderAt, index IndexHeader, emit func(Commit) error) error {
	if t.pos.Salt1 == index.Salt1 && t.pos.Salt2 == index.Salt2 && t.pos.Frames == index.Frames && t.pos.Sum != index.Sum {
		return fmt.Errorf("frame %d of the log is not the one that was captured: %w", t.pos.Frames, ErrMissed)
	}
	t.limit = &index
	err := t.Look(log, emit)
	t.limit = nil
	return err
}

// beyond reports whether a position is behind what the wal-index has.
func (t *Tracker) beyond(p Position) bool {
	if t.limit == nil {
		return false
	}
	if p.Salt1 == t.limit.Salt1 && p.Salt2 == t.limit.Salt2 {
		return p.Frames > t.limit.Frames
	}
	// An epoch that has ended was committed. Of a new one the index will tell.
	return p.Salt1+1 != t.limit.Salt1
}

// told returns how many frames the wal-index has behind a position, zero when it
// does not tell.
func (t *Tracker) told(from Position) uint32 {
	if t.limit == nil || from.Salt1 != t.limit.Salt1 || from.Salt2 != t.limit.Salt2 || from.Frames > t.limit.Frames {
		return 0
	}
	return t.limit.Frames - from.Frames
}

// reached reports whether a position is where the wal-index ends.
func (t *Tracker) reached(p Position) bool {
	return t.limit != nil && p.Salt1 == t.limit.Salt1 && p.Salt2 == t.limit.Salt2 && p.Frames >= t.limit.Frames
}

// in reports whether p is a position in the epoch of h.
func (p Position) in(h Header) bool {
	return p.Salt1 == h.Salt1 && p.Salt2 == h.Salt2 && p.PageSize == h.PageSize && p.BigEndian == h.BigEndian
}

// before reports whether p is a position in the epoch before that of h.
func (p Position) before(h Header) bool {
	return p.Salt1+1 == h.Salt1 && p.PageSize == h.PageSize
}

// follow emits what is committed behind a position in its own epoch. If linked,
// it first makes sure that the log still has what is in front of the position,
// and returns false if not.
//
// The Tracker's position moves with the first commit, not before: as long as an
// epoch has none SQLite may write its header again, with other salts if the
// writer is a connection that has never restarted a log (walFrames: nCkpt==0).
func (t *Tracker) follow(log io.ReaderAt, from Position, linked bool, emit func(Commit) error) (bool, error) {
	s := newScanner(log, from, t.told(from))
	defer s.release()
	if linked {
		if ok, err := s.linked(); !ok {
			return false, err
		}
	}
	frames := t.room()
	for !t.reached(s.pos) {
		f, ok, err := s.next()
		if err != nil || !ok {
			return true, err
		}
		if f.IsCommit() && len(frames) == 0 && s.repeats(f) && !t.beyond(s.pos) {
			t.pos, t.reset = s.pos, false
			continue
		}
		frames = append(frames, Frame{Pgno: f.Pgno, Off: f.off, Sum: PageSum(f.Pgno, f.page)})
		if !f.IsCommit() {
			continue
		}
		if t.beyond(s.pos) {
			return true, nil
		}
		c := Commit{Frames: t.take(latest(frames, f.Size)), Size: f.Size, PageSize: s.pos.PageSize, End: s.pos}
		if err := emit(c); err != nil {
			return true, err
		}
		t.pos, t.reset = s.pos, false
		frames = t.room()
	}
	return true, nil
}

// room returns an empty slice to collect frames in.
func (t *Tracker) room() []Frame {
	if cap(t.spare) == 0 {
		t.spare = make([]Frame, 0, spareFrames)
	}
	return t.spare[:0]
}

// take gives frames away, which were collected in room.
func (t *Tracker) take(frames []Frame) []Frame {
	n := len(frames)
	if n > 0 && n <= cap(t.spare) && &frames[0] == &t.spare[:1][0] {
		t.spare = t.spare[n:n:cap(t.spare)]
	}
	return frames[:n:n]
}

// latest sorts frames by page number in place, and leaves the last version of
// each page and none above size.
func latest(frames []Frame, size Pgno) []Frame {
	ascending := true // as SQLite writes them, unless it spills
	for i := 1; i < len(frames) && ascending; i++ {
		ascending = frames[i-1].Pgno < frames[i].Pgno
	}
	if !ascending {
		slices.SortFunc(frames, func(a, b Frame) int {
			return cmp.Or(cmp.Compare(a.Pgno, b.Pgno), cmp.Compare(b.Off, a.Off))
		})
		frames = slices.CompactFunc(frames, func(a, b Frame) bool { return a.Pgno == b.Pgno })
	}
	n, _ := slices.BinarySearchFunc(frames, size, func(f Frame, size Pgno) int {
		if f.Pgno <= size {
			return -1
		}
		return 1
	})
	return frames[:n]
}

// Check reports whether log has the position: its header has the same salts, and
// the running checksum verifies from there up to the position. It reads that
// part of the log. Every log has the zero Position.
func (t *Tracker) Check(log io.ReaderAt) (bool, error) {
	pos := t.Position()
	if pos.IsZero() {
		return true, nil
	}
	h, ok, err := t.readHeader(log)
	if err != nil || !ok || !pos.in(h) {
		return false, err
	}
	s := newScanner(log, h.start(), pos.Frames)
	defer s.release()
	if ok, err := s.linked(); !ok {
		return false, err
	}
	for s.pos.Frames < pos.Frames {
		if _, ok, err := s.next(); err != nil || !ok {
			return false, err
		}
	}
	return s.pos == pos, nil
}

// readHeader returns the header of a log, and false if it has none: the file is
// too short, or the header is torn.
func (t *Tracker) readHeader(log io.ReaderAt) (Header, bool, error) {
	b := t.head[:]
	n, err := log.ReadAt(b, 0)
	if n < len(b) && err == nil {
		err = io.ErrNoProgress
	}
	if n < len(b) && err != io.EOF {
		return Header{}, false, fmt.Errorf("read log header: %w", err)
	}
	h, err := ParseHeader(b[:n])
	if err != nil {
		// SQLite takes a log with such a header for an empty one.
		return Header{}, false, nil
	}
	return h, true, nil
}
