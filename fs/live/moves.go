package live

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Names implements watcher.
func (s *set) Names(changing bool) func() {
	if !changing {
		s.names.RLock()
		return s.names.RUnlock
	}
	s.names.Lock()
	return func() {
		moved := s.moved
		s.moved = nil
		s.names.Unlock()
		for _, path := range moved {
			s.takeInMoved(path)
		}
	}
}

// move is an operation that gives files other names, or takes them away.
type move struct {
	set      *set
	from, to string // to is empty when from is removed
	exchange bool
	moving   named // what is called from before
	replaced named // what is called to before
	orphaned bool  // a database was followed by the name that is taken away
	// databases that the operation may be of concern to, in path order; their
	// locks are held from before the operation until the move is over.
	databases []*database
}

// Gate implements watcher.
func (s *set) Gate(path string, op gateOp) func(bool) {
	switch op {
	case opUnlink:
		m := &move{set: s, from: path}
		m.begin()
		return m.over
	case opLink:
		return func(done bool) {
			if done {
				s.linked(path)
			}
		}
	}
	passage := s.lock(path).enter(op)
	return func(bool) { passage.Done() }
}

// lock locks the database that the file path is a part of, if any, and returns
// what it is.
func (s *set) lock(path string) part {
	f := &openFile{set: s, id: s.named(path).id, names: []string{path}}
	s.mu.Lock()
	p := s.partOf(f)
	s.mu.Unlock()
	f.is.Store(&p)
	return f.lock()
}

// Rename implements watcher.
func (s *set) Rename(from, to string, exchange bool) func(bool) {
	m := &move{set: s, from: from, to: to, exchange: exchange}
	m.begin()
	return m.over
}

// begin passes the gate.
func (m *move) begin() {
	m.moving = m.set.named(m.from)
	if m.to != "" {
		m.replaced = m.set.named(m.to)
	}
	m.databases = m.affected()
	for _, d := range m.databases {
		d.mu.Lock()
		d.look()
		d.save()
	}
}

// tree reports whether the move is of directories.
func (m *move) tree() bool { return m.to != "" && (m.moving.dir || m.replaced.dir) }

// moves reports whether the move gives path another name, or takes it away.
func (m *move) moves(path string) bool {
	_, moves := m.renamed(path)
	return moves
}

// affected returns the databases that the move may be of concern to. Those below
// directories are looked for only when there is one.
func (m *move) affected() []*database {
	s := m.set
	found := make(map[*database]struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range []fileID{m.moving.id, m.replaced.id} {
		if d := s.owners[id]; d != nil {
			found[d] = struct{}{}
		}
	}
	for _, f := range m.opened() {
		if d := f.is.Load().d; d != nil {
			found[d] = struct{}{}
		}
	}
	for _, name := range []string{m.from, m.to} {
		base, _ := partOf(name)
		if d := s.files[base]; d != nil {
			found[d] = struct{}{}
		}
	}
	if m.tree() {
		for p, d := range s.files {
			if m.moves(p) {
				found[d] = struct{}{}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b *database) int { return strings.Compare(a.path, b.path) })
}

// opened returns the open files that the move is of. The caller holds set.mu.
func (m *move) opened() []*openFile {
	var found []*openFile
	if !m.tree() {
		for _, id := range []fileID{m.moving.id, m.replaced.id} {
			if f := m.set.opened[id]; f != nil {
				found = append(found, f)
			}
		}
		return found
	}
	for _, f := range m.set.opened {
		if slices.ContainsFunc(f.names, m.moves) {
			found = append(found, f)
		}
	}
	return found
}

// renamed returns what path is called after the move: nothing, when it is taken
// away. It returns false if the move leaves path alone.
func (m *move) renamed(path string) (string, bool) {
	if rest, ok := under(path, m.from); ok {
		if m.to == "" {
			return "", true
		}
		return m.to + rest, true
	}
	if m.to == "" {
		return path, false
	}
	rest, ok := under(path, m.to)
	if !ok {
		return path, false
	}
	if m.exchange {
		return m.from + rest, true
	}
	return "", true
}

// under returns what is behind dir in a path that is dir or lies below it.
func under(path, dir string) (string, bool) {
	rest, ok := strings.CutPrefix(path, dir)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// over ends the move: databases let go of files that are theirs no more, open
// files are followed to where they are now, and then everybody may go on.
func (m *move) over(done bool) {
	if m.moving.id == m.replaced.id && !m.exchange {
		done = false // two names of one file: rename(2) leaves both
	}
	var late []*openFile
	if done {
		var left []*database
		for _, d := range m.databases {
			if m.left(d) {
				left = append(left, d)
			}
		}
		late = m.follow(left)
	}
	for _, d := range m.databases {
		d.mu.Unlock()
	}
	for _, f := range late {
		m.set.rejoin(f, func() { m.rename(f) })
	}
	if done {
		m.set.over(m)
	}
}

// left makes d let go of its file if that is not called d.path any more, and
// returns true then. The caller holds d.mu.
func (m *move) left(d *database) bool {
	claimed := m.set.claimed(d)
	if claimed == (fileID{}) || claimed == m.set.named(d.path).id {
		m.beside(d)
		return false
	}
	m.orphaned = m.orphaned || claimed == m.gone().id
	if err := d.letGo(); err != nil {
		d.logger().Error("letting go of a database that was removed or renamed", "error", err)
	}
	m.set.mu.Lock()
	defer m.set.mu.Unlock()
	m.set.disclaim(d)
	return true
}

// beside tells d if it was its log or journal that moved. The caller holds d.mu.
func (m *move) beside(d *database) {
	for _, name := range []string{m.from, m.to} {
		base, role := partOf(name)
		if base != d.path {
			continue
		}
		switch role {
		case roleLog:
			d.logReplaced()
		case roleJournal:
			d.journalChanged()
		}
	}
}

// gone returns what has one name less after the move.
func (m *move) gone() named {
	if m.to == "" {
		return m.moving
	}
	if m.exchange {
		return named{}
	}
	return m.replaced
}

// follow gives the open files that are moved their new names, and makes them,
// and all that were parts of the databases left, parts of what they belong to now.
// It returns files for which a lock is missing: of those that were opened
// meanwhile. The caller holds the locks of m.databases.
func (m *move) follow(left []*database) (late []*openFile) {
	s := m.set
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range m.opened() {
		if d := f.is.Load().d; d != nil && !slices.Contains(m.databases, d) {
			late = append(late, f)
			continue
		}
		m.rename(f)
		s.join(f)
	}
	if len(left) == 0 {
		return late
	}
	for _, f := range s.opened {
		if d := f.is.Load().d; d != nil && slices.Contains(left, d) {
			s.join(f)
		}
	}
	return late
}

// rename gives f the names that it has after the move. The caller holds set.mu.
func (m *move) rename(f *openFile) {
	var names []string
	for _, name := range f.names {
		if name, _ = m.renamed(name); name != "" {
			names = append(names, name)
		}
	}
	f.names = names
}

// over does what is to be done behind a move that was done, when no lock is held:
// databases are followed under the names that they have now.
func (s *set) over(m *move) {
	s.mu.Lock()
	for _, d := range m.databases {
		s.forget(d)
	}
	s.mu.Unlock()
	if m.to != "" {
		s.moved = append(s.moved, m.to)
	}
	if m.exchange {
		s.moved = append(s.moved, m.from)
	}
	if m.orphaned && m.gone().links > 1 {
		s.search()
	}
}

// takeInMoved follows the databases at and below path.
func (s *set) takeInMoved(path string) {
	if err := s.takeInAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		s.logger.Warn("not looked into for databases", "path", path, "error", err)
	}
	if base, role := partOf(path); role != roleIndex {
		s.consider(base)
	}
}
