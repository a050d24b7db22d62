package live

import (
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// fileID tells a file of the backing tree from all others, also from later ones
// of the same inode number. The zero value is no file.
type fileID struct {
	dev, ino uint64
	born     unix.StatxTimestamp
}

func idOf(st *unix.Statx_t) fileID {
	return fileID{dev: device(st), ino: st.Ino, born: st.Btime}
}

// part is what a file is to a database.
type part struct {
	d    *database // nil: the file is nobody's
	role role
}

// openFile is a file that the application has open, whatever it is called and
// through however many handles.
type openFile struct {
	set  *set
	id   fileID
	past bool // it is written past the daemon
	// is changes with the names of the file, under the lock of the database that
	// it was a part of, and under set.mu.
	is    atomic.Pointer[part]
	guard guard

	// set.mu guards what follows.
	handles int
	names   []string // under which it was opened, as they are by now
}

// lock locks the database that the file is a part of now, if any, and returns
// what it is. As long as the lock is held it stays that.
func (f *openFile) lock() part {
	for {
		p := f.is.Load()
		if p.d == nil {
			return *p
		}
		p.d.mu.Lock()
		if f.is.Load() == p {
			return *p
		}
		p.d.mu.Unlock()
	}
}

func (p part) unlock() {
	if p.d != nil {
		p.d.mu.Unlock()
	}
}

// name is what f is called in messages.
func (f *openFile) name() string {
	if d := f.is.Load().d; d != nil {
		return d.path
	}
	return "(removed)"
}

// openHandle is the watch of one handle.
type openHandle struct {
	*openFile
	written atomic.Bool // through this handle, to a main file
}

var _ watch = (*openHandle)(nil)

// Role implements watch.
func (h *openHandle) Role() role { return h.is.Load().role }

// Gate implements watch. The lock of the database is held until Done, so that
// nobody looks while the file changes.
func (h *openHandle) Gate(op gateOp) passage {
	p := h.lock()
	if p.d != nil && p.role == rolePlain {
		h.written.Store(true)
	}
	return p.enter(op)
}

// Written implements watch.
func (h *openHandle) Written(off int64, b []byte) {
	p := h.lock()
	defer p.unlock()
	switch {
	case p.d == nil:
	case p.role == roleLog:
		p.d.logWritten(off, b)
	case p.role == rolePlain: // by a rename during the write
		h.written.Store(true)
		p.d.touch(off, b)
	}
}

// Syncing implements watch.
func (h *openHandle) Syncing() {
	p := h.lock()
	defer p.unlock()
	if p.d != nil && p.role == roleLog {
		p.d.syncing()
	}
}

// Released implements watch. A database that was copied into the mount is
// followed from here on, though no connection was opened yet.
func (h *openHandle) Released() {
	if h.written.Load() {
		h.set.considerFile(h.openFile)
	}
	if h.past { // nobody tells of a process's last commit any more
		h.wasWritten()
	}
	h.set.released(h.openFile)
	p := h.lock()
	defer p.unlock()
	if p.d != nil && p.role == roleLog {
		p.d.endEpochs()
	}
	p.unused()
}

// inPassage is an operation that has passed its gate.
type inPassage struct {
	part
	op gateOp
}

// enter passes the gate. The caller holds the lock of the database, and gives
// it to the passage.
func (p part) enter(op gateOp) passage {
	if p.d == nil {
		return inPassage{p, op}
	}
	if p.d.phase == resting { // and the operation is by name
		p.d.wake()
	}
	switch p.role {
	case rolePlain:
		p.d.gateFile(op)
	case roleLog:
		p.d.gateLog(op)
	}
	return inPassage{p, op}
}

// Written implements passage.
func (p inPassage) Written(off int64, b []byte) {
	switch {
	case p.d == nil:
	case p.role == rolePlain:
		p.d.touch(off, b)
	case p.role == roleLog && off < wal.HeaderSize:
		p.d.hint.Wrote(off, b)
	case p.role == roleLog:
		p.d.logWritten(off, b)
	}
}

// Done implements passage.
func (p inPassage) Done() {
	if p.d == nil {
		return
	}
	defer p.d.mu.Unlock()
	switch p.role {
	case rolePlain:
		if p.op != opWrite {
			p.d.resized(p.op)
		}
	case roleLog:
		p.d.logChanged()
	case roleJournal:
		p.d.journalChanged()
	case roleForeign:
		p.d.quietSoon()
	}
}

// Opened implements watcher.
func (s *set) Opened(path string, fd int, st *unix.Statx_t, flags int, past bool) (watch, bool) {
	f, first := s.take(path, idOf(st), past)
	h := &openHandle{openFile: f}
	if h.Role() != rolePlain {
		f.rouse()
	}
	if past {
		// Whoever reads the database as it stands still has to be through with it.
		f.lock().unlock()
		s.tail.follow(f, fd)
	}
	if flags&unix.O_TRUNC != 0 && h.Role() == rolePlain {
		h.written.Store(true)
	}
	// It may have lost its name before it was known here that it is open.
	if now, err := statAt(fd, ""); err == nil && now.Nlink == 0 {
		s.rejoin(f, func() { f.names = nil })
	}
	return h, s.inUse(f, fd, first)
}

// take returns the open file id, with one handle more and the name path, and
// whether that is the first handle.
func (s *set) take(path string, id fileID, past bool) (f *openFile, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f = s.opened[id]
	if f == nil {
		f = &openFile{set: s, id: id, past: past}
		f.is.Store(new(part))
		s.opened[id] = f
	}
	if !slices.Contains(f.names, path) {
		f.names = append(f.names, path)
	}
	if f.is.Load().d == nil {
		s.join(f)
	}
	f.handles++
	f.is.Load().opened(f, 1)
	return f, f.handles == 1
}

// rouse wakes the database that f, which has just been opened, belongs to. Of a main
// file inUse does.
func (f *openFile) rouse() {
	p := f.lock()
	defer p.unlock()
	if p.d != nil && p.d.phase == resting {
		p.d.wake()
	}
}

// released counts a handle of f less, and forgets a file that nobody has open
// and that is no database.
func (s *set) released(f *openFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.handles--
	if f.handles == 0 {
		delete(s.opened, f.id)
		s.tail.leave(f)
		s.leave(f)
	}
	p := f.is.Load()
	p.opened(f, -1)
	if p.d != nil {
		s.forget(p.d)
		if p.d.handles == 0 && s.files[p.d.path] == p.d {
			s.lull(p.d)
		}
	}
}

// unused lets go of what is only kept as long as somebody has p open. The caller
// holds the lock of the database.
func (p part) unused() {
	switch {
	case p.d == nil:
	case p.role == roleIndex && p.d.indexes.Load() == 0:
		p.d.closeIndex()
	case p.role == roleLog && p.d.logs.Load() == 0:
		p.d.epochs = nil
	}
}

// rejoin finds out anew what f is a part of, when names has changed its names.
func (s *set) rejoin(f *openFile, names func()) {
	p := f.lock()
	defer p.unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	names()
	s.join(f)
}

// opened counts n handles more of f, which is p. The caller holds set.mu.
func (p part) opened(f *openFile, n int) {
	if p.d == nil {
		return
	}
	p.d.handles += n
	switch {
	case !f.past:
	case p.role == roleIndex:
		p.d.indexes.Add(int32(n))
	case p.role == roleLog:
		p.d.logs.Add(int32(n))
	case p.role == rolePlain:
		p.d.mains.Add(int32(n))
	case p.role == roleForeign:
		p.d.foreign.Add(int32(n))
	}
}

// join makes f a part of what its names say. The caller holds s.mu, and the lock
// of the database that f was a part of.
func (s *set) join(f *openFile) {
	was, is := f.is.Load(), s.partOf(f)
	if *was == is {
		return
	}
	was.opened(f, -f.handles)
	is.opened(f, f.handles)
	was.unused()
	f.is.Store(&is)
}

// partOf returns what f is a part of by its names. A database has only one,
// whatever other names the file has. The caller holds s.mu.
func (s *set) partOf(f *openFile) part {
	if d := s.owners[f.id]; d != nil {
		return part{d, rolePlain}
	}
	if len(f.names) == 0 {
		return part{}
	}
	base, role := partOf(f.names[0])
	switch role {
	case roleLog, roleJournal, roleIndex:
		if d := s.elsewhere(base); d != nil {
			return part{d, roleForeign}
		}
	}
	return part{s.at(base), role}
}
