package generations

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spool is a directory that holds what is not in the store yet:
//
//	lock                   flocked by the process that has the spool
//	url                    the replica URL it belongs to
//	writer                 its random name, for manifests
//	tmp/                   files being written; emptied on opening
//	objects/<key>          manifests, snapshots and pieces
//	state/<hash>.json      per client, what the store has; see state
//	times/<hash>           per client, when what is not saved was committed; see times
//	states/<hash>          per client, checksums of pages as of recent transactions; see states
//	rests                  how the mount has left databases that nobody uses; see fs/live
//	raw/<number>           pieces that are not packs yet; see rawPiece and rawPool
//
// Files of objects appear whole, by rename, and are never changed, so a killed
// process leaves nothing half-written. They are not fsynced: a power loss can cost the
// newest of them. That is found out when they are opened or shipped, and costs
// a new generation, never a wrong one.
type Spool struct {
	dir    string
	writer string
	lock   *os.File

	feeds    feeds
	raws     rawPieces
	rawFiles rawPool
	cramped  sync.Mutex // held while a segment is in memory that is to be in a file
}

// SpoolDir returns where the spool for a replica URL lies below the backing
// directory of a mount.
func SpoolDir(backing, url string) string {
	sum := sha256.Sum256([]byte(url))
	return filepath.Join(backing, ".walback", hex.EncodeToString(sum[:8]))
}

// OpenSpool opens the spool in dir, making it if need be. The error matches
// ErrSpoolInUse when another process has it.
func OpenSpool(dir, url string) (*Spool, error) {
	s := &Spool{dir: dir}
	for _, d := range []string{s.tmpDir(), s.stateDir(), s.timesDir(), s.statesDir(), s.rawDir(), s.objectsDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
	}
	if err := s.acquire(); err != nil {
		return nil, err
	}
	if err := s.prepare(url); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// acquire takes the lock of the spool.
func (s *Spool) acquire() error {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return tell(ErrSpoolInUse, "spool %s is in use by another process: unmount there first", s.dir)
		}
		return fmt.Errorf("spool %s: lock: %w", s.dir, err)
	}
	s.lock = f
	return nil
}

// prepare checks whose spool it is and removes what a killed process left.
func (s *Spool) prepare(url string) error {
	have, err := s.once("url", func() string { return url })
	if err != nil {
		return err
	}
	if have != url {
		return fmt.Errorf("spool %s belongs to %s, not to %s: use another directory", s.dir, have, url)
	}
	if s.writer, err = s.once("writer", newWriterName); err != nil {
		return err
	}
	leftover, err := os.ReadDir(s.tmpDir())
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	for _, e := range leftover {
		if err := os.Remove(filepath.Join(s.tmpDir(), e.Name())); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	}
	return s.recoverRaw()
}

// once returns the line in the file name, writing it first if there is none.
func (s *Spool) once(name string, line func() string) (string, error) {
	path := filepath.Join(s.dir, name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		b = []byte(line() + "\n")
		err = s.writeFile(path, b)
	}
	if err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

// Close lets go of the spool.
func (s *Spool) Close() error { return s.lock.Close() }

// Dir returns the directory of the spool.
func (s *Spool) Dir() string { return s.dir }

func (s *Spool) tmpDir() string     { return filepath.Join(s.dir, "tmp") }
func (s *Spool) stateDir() string   { return filepath.Join(s.dir, "state") }
func (s *Spool) timesDir() string   { return filepath.Join(s.dir, "times") }
func (s *Spool) statesDir() string  { return filepath.Join(s.dir, "states") }
func (s *Spool) rawDir() string     { return filepath.Join(s.dir, "raw") }
func (s *Spool) objectsDir() string { return filepath.Join(s.dir, "objects") }

func (s *Spool) objectPath(key string) string {
	return filepath.Join(s.objectsDir(), filepath.FromSlash(key))
}

// Open opens an object for reading and returns its size in bytes. It stays
// readable after it has been removed. The error matches fs.ErrNotExist when it
// is not there, which also is how it looks once it has been shipped.
func (s *Spool) Open(key string) (*os.File, int64, error) {
	if o, err := ParseKey(key); err == nil && o.Kind == PieceObject {
		if err := s.settle(o.Client, key); err != nil {
			return nil, 0, err
		}
	}
	f, err := os.Open(s.objectPath(key))
	if err != nil {
		return nil, 0, fmt.Errorf("spool: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("spool: %w", err)
	}
	return f, info.Size(), nil
}

// List returns the objects of a client, in key order.
func (s *Spool) List(client string) ([]PlanObject, error) {
	for _, p := range s.raws.all(client) {
		if err := s.settle(client, p.Key()); err != nil {
			return nil, err
		}
	}
	var found []PlanObject
	root := s.objectPath(clientPrefix(client))
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since its directory was read
		}
		if err != nil || d.IsDir() {
			return err
		}
		o, isObject, err := s.objectAt(path, d)
		if isObject && o.Client == client {
			found = append(found, o)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	slices.SortFunc(found, func(a, b PlanObject) int { return strings.Compare(a.Key(), b.Key()) })
	return found, nil
}

// Clients returns the clients that have objects in the spool, in order.
func (s *Spool) Clients() ([]string, error) {
	seen := s.raws.clients()
	err := filepath.WalkDir(s.objectsDir(), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		if o, isObject, err := s.objectAt(path, d); err != nil {
			return err
		} else if isObject {
			seen[o.Client] = struct{}{}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	clients := make([]string, 0, len(seen))
	for c := range seen {
		clients = append(clients, c)
	}
	slices.Sort(clients)
	return clients, nil
}

// objectAt returns the object in the file at path; false when the file is no
// object of ours or has been removed meanwhile.
func (s *Spool) objectAt(path string, d fs.DirEntry) (PlanObject, bool, error) {
	key, err := filepath.Rel(s.objectsDir(), path)
	if err != nil {
		return PlanObject{}, false, err
	}
	o, err := ParseKey(filepath.ToSlash(key))
	if err != nil {
		return PlanObject{}, false, nil // a file somebody else put there
	}
	info, err := d.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return PlanObject{}, false, nil
	}
	if err != nil {
		return PlanObject{}, false, err
	}
	return PlanObject{Object: o, Size: info.Size(), Local: true}, true, nil
}
