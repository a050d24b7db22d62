package live

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
)

// A file with several names (hard links) is one database, with one past: that of
// the name by which it was followed first. SQLite derives the names of log and
// journal from the name it is opened by; those beside another name than that
// one are foreign. What they hold is not looked at: what is committed with them
// is captured from the main file, when they have ended.

// hardLinks collects the names of files that have several, in the order of the
// first ones.
type hardLinks struct {
	files [][]string
	index map[fileID]int
}

// add returns false for a file with a single name.
func (l *hardLinks) add(path string, file named) bool {
	if file.links < 2 {
		return false
	}
	i, known := l.index[file.id]
	if !known {
		if l.index == nil {
			l.index = make(map[fileID]int)
		}
		i = len(l.files)
		l.index[file.id] = i
		l.files = append(l.files, nil)
	}
	l.files[i] = append(l.files[i], path)
	return true
}

// preferred returns by which of its names a database is to be followed: that
// under which its past was captured last, lest a hard link of a backup takes the
// past from the name that is used; else one with a log or journal beside it;
// else the first.
func (s *set) preferred(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	s.mu.Lock()
	d := s.owner(s.named(names[0]).id)
	s.mu.Unlock()
	if d != nil {
		return d.path
	}
	if !s.isDatabase(names[0]) {
		return names[0]
	}
	best, newest := "", wal.Time(0)
	for _, name := range names {
		if at := s.capturedAt(name); at > newest {
			best, newest = name, at
		}
	}
	if best != "" {
		return best
	}
	if i := slices.IndexFunc(names, s.unfinished); i >= 0 {
		return names[i]
	}
	return names[0]
}

// isDatabase reports whether the file at path is one.
func (s *set) isDatabase(path string) bool {
	f, err := openRegular(s.backing(path))
	if err != nil {
		return false
	}
	defer f.Close() // only read
	_, err = readHeader(f)
	return err == nil
}

// capturedAt returns when the last transaction was captured under a name that is
// not followed now; zero when none was.
func (s *set) capturedAt(path string) wal.Time {
	sink, err := s.open(path)
	if err != nil {
		s.logger.Warn("not looked at for its past", "path", path, "error", err)
		return 0
	}
	var at wal.Time
	if past, known := sink.Resume(); known {
		at = past.Mark.Txn.Time
	}
	if err := sink.Close(); err != nil {
		s.logger.Warn("not looked at for its past", "path", path, "error", err)
	}
	return at
}

// unfinished reports whether there is a log, or a journal of a transaction that
// has not ended, beside the main file path.
func (s *set) unfinished(path string) bool {
	if st, err := os.Stat(s.backing(path + logSuffix)); err == nil && st.Size() > 0 {
		return true
	}
	hot, err := hotJournal(s.backing(path + journalSuffix))
	return hot || err != nil
}

// alsoCalled notes another name of a database, and says it once.
func (s *set) alsoCalled(d *database, name string) {
	s.mu.Lock()
	said := len(d.others) > 0
	if d.others == nil {
		d.others = make(map[string]struct{})
	}
	d.others[name] = struct{}{}
	s.mu.Unlock()
	if !said {
		d.logger().Warn("the database has another name, a hard link; what is committed through that is captured under this one, when the log or journal beside that one has ended",
			"other name", name)
	}
}

// foreignHot reports whether what is committed is not all in the main file,
// because a log or journal beside another name has it. The caller holds d.mu.
func (d *database) foreignHot() bool {
	d.set.mu.Lock()
	var others []string
	for name := range d.others {
		others = append(others, name)
	}
	d.set.mu.Unlock()
	return slices.ContainsFunc(others, func(name string) bool {
		return d.set.named(name).id == d.set.claimed(d) && d.set.unfinished(name)
	})
}

// linked deals with a name that a file was just given in addition. Names are
// changing.
func (s *set) linked(path string) {
	base, role := partOf(path)
	if role != rolePlain {
		if d := s.known(base); d != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			if role == roleLog {
				d.logReplaced()
			} else {
				d.journalChanged()
			}
		}
		return
	}
	s.moved = append(s.moved, path)
}

// owner returns the database that the file id is the main file of, by whatever
// name, or nil if it is not known yet. The caller holds s.mu.
func (s *set) owner(id fileID) *database {
	if d := s.owners[id]; d != nil {
		return d
	}
	if f := s.opened[id]; f != nil {
		if p := f.is.Load(); p.role == rolePlain {
			return p.d
		}
	}
	return nil
}

// elsewhere returns the database that the file path is, if that is followed by
// another name. The caller holds s.mu.
func (s *set) elsewhere(path string) *database {
	d := s.owners[s.named(path).id]
	if d == nil || d.path == path {
		return nil
	}
	return d
}

// claim makes f the main file of d. The error is errNotDatabase when it is that of
// another one. The caller holds d.mu.
func (s *set) claim(d *database, f *os.File) error {
	st, err := statAt(int(f.Fd()), "")
	if err != nil {
		return err
	}
	inUse, err := s.claimID(d, &st)
	if inUse != nil {
		s.guard(inUse, int(f.Fd()))
	}
	return err
}

// claimID is claim for the file with the attributes st. It returns the open file
// if d is its owner for the first time.
func (s *set) claimID(d *database, st *unix.Statx_t) (inUse *openFile, err error) {
	id := idOf(st)
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.owner(id); o != nil && o != d || s.at(d.path) != d {
		return nil, errNotDatabase // of this name
	}
	if d.id == id {
		return nil, nil
	}
	left, err := stampsOf(st, d.logFile())
	if err != nil {
		return nil, err
	}
	s.disclaim(d)
	d.id, d.left, s.owners[id] = id, left, d
	f := s.opened[id]
	if f != nil && f.is.Load().d == nil {
		s.join(f)
	}
	return f, nil
}

// claimed returns which file d has claimed.
func (s *set) claimed(d *database) fileID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return d.id
}

// disclaim makes d's main file nobody's. The caller holds s.mu.
func (s *set) disclaim(d *database) {
	if s.owners[d.id] == d {
		delete(s.owners, d.id)
	}
	d.id, d.others = fileID{}, nil
}

// search looks for databases in the whole tree, in the background: one that was
// followed has lost the name it was followed by, and has others.
func (s *set) search() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return
	}
	if s.searching != nil {
		select {
		case s.searching <- struct{}{}:
		default: // it will be looked again already
		}
		return
	}
	again := make(chan struct{}, 1)
	again <- struct{}{}
	s.searching = again
	s.background.Go(func() {
		for s.searchOnce(again) {
		}
	})
}

// searchOnce looks if that was asked for, and returns false otherwise.
func (s *set) searchOnce(asked chan struct{}) bool {
	s.mu.Lock()
	select {
	case <-asked:
	default:
		s.searching = nil
		s.mu.Unlock()
		return false
	}
	s.mu.Unlock()
	if err := s.takeInAll(""); err != nil {
		s.logger.Warn("not looked into for databases", "error", err)
	}
	return true
}
