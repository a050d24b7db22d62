package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/crc64nvme"
	"golang.org/x/sys/unix"
)

const (
	slabName    = "chunks"
	slabMagic   = "walbackC"
	slabVersion = 1
	slabHeader  = 4096 // bytes in front of the table
	slotSize    = 32   // bytes of a slot in the table
	ways        = 16   // slots in a set
)

// slab is a chunkStore in one file; doc.go draws it. Any failure to read or
// write it is a chunk that is not here.
type slab struct {
	f    *os.File
	sets uint64
	now  func() time.Time
	// writing keeps two goroutines from choosing the same slot of a set. It
	// only saves work: slots prove themselves.
	writing [64]sync.Mutex
	// failure is the last error of the file, for Stats.
	failure atomic.Pointer[error]
}

// openSlab opens or creates the chunk file in dir, which is created too. When
// another process has it open with another limit, that limit stays in force;
// otherwise the file is made anew.
func openSlab(dir string, limit int64, now func() time.Time) (*slab, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, slabName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	s := &slab{f: f, now: now}
	if err := s.settle(setsFor(limit)); err != nil {
		return nil, errors.Join(fmt.Errorf("cache file %s: %w", f.Name(), err), f.Close())
	}
	return s, nil
}

// setsFor returns the number of sets whose slots and chunks take at most limit
// bytes: whole extents, unless that would be none; at least one.
func setsFor(limit int64) uint64 {
	sets := uint64(max(1, (limit-slabHeader)/(ways*(slotSize+ChunkSize))))
	if sets < extent {
		return sets
	}
	return sets - sets%extent
}

// settle agrees with the other processes on the number of sets. The shared
// lock it leaves on the file says "in use with the sets the header tells".
func (s *slab) settle(want uint64) error {
	fd := int(s.f.Fd())
	for range 100 {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			if have, ok := s.readHeader(); !ok || have != want {
				if err := s.create(want); err != nil {
					return err
				}
			}
		} else if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		// Going from exclusive to shared lets others in between, and whoever
		// holds it exclusively is about to write the header: read it again.
		if err := unix.Flock(fd, unix.LOCK_SH); err != nil {
			return err
		}
		if have, ok := s.readHeader(); ok {
			s.sets = have
			return nil
		}
		if err := unix.Flock(fd, unix.LOCK_UN); err != nil {
			return err
		}
	}
	return errors.New("has no valid header and is in use by another process; remove it")
}

// create empties the file and gives it the given number of sets. The caller
// holds the exclusive lock.
func (s *slab) create(sets uint64) error {
	if err := s.f.Truncate(0); err != nil {
		return err
	}
	size := int64(slabHeader) + int64(sets)*ways*(slotSize+ChunkSize)
	if err := s.f.Truncate(size); err != nil {
		return err
	}
	_, err := s.f.WriteAt(encodeHeader(sets), 0)
	return err
}

func encodeHeader(sets uint64) []byte {
	b := append(make([]byte, 0, 32), slabMagic...)
	b = binary.BigEndian.AppendUint32(b, slabVersion)
	b = binary.BigEndian.AppendUint32(b, ChunkSize)
	b = binary.BigEndian.AppendUint64(b, sets)
	return binary.BigEndian.AppendUint64(b, crc64nvme.Checksum(b))
}

// readHeader returns the number of sets the file has, and false when it is not
// a chunk file of this version.
func (s *slab) readHeader() (uint64, bool) {
	b := make([]byte, 32)
	if _, err := s.f.ReadAt(b, 0); err != nil {
		return 0, false
	}
	sets := binary.BigEndian.Uint64(b[16:])
	return sets, sets > 0 && sets < 1<<40 && string(b) == string(encodeHeader(sets))
}

// slot is a decoded slot of the table. The zero slot is empty.
type slot struct {
	id     chunkID
	sum    uint64
	stamp  int64 // Unix milliseconds of the last use, 48 bits
	length int   // bytes, up to ChunkSize
}

func (e slot) encode() []byte {
	b := append(make([]byte, 0, slotSize), e.id[:]...)
	b = binary.BigEndian.AppendUint64(b, e.sum)
	return binary.BigEndian.AppendUint64(b, uint64(e.stamp)<<16|uint64(e.length))
}

func decodeSlot(b []byte) slot {
	last := binary.BigEndian.Uint64(b[24:])
	return slot{
		id:     chunkID(b[:16]),
		sum:    binary.BigEndian.Uint64(b[16:]),
		stamp:  int64(last >> 16),
		length: int(last & 0xffff),
	}
}

func chunkSum(id chunkID, data []byte) uint64 {
	return crc64nvme.Update(crc64nvme.Checksum(id[:]), data)
}

// set returns the number of the set that id belongs to. The chunks of an extent
// follow each other.
func (s *slab) set(id chunkID) uint64 {
	n, of := id.place()
	return (crc64nvme.Checksum(of[:])%max(1, s.sets/extent)*extent + n) % s.sets
}

func (s *slab) slotOffset(set uint64, way int) int64 {
	return slabHeader + int64(set*ways+uint64(way))*slotSize
}

// chunkOffset: chunks in the same way of sets that follow each other do so too.
func (s *slab) chunkOffset(set uint64, way int) int64 {
	return s.slotOffset(s.sets, 0) + int64(uint64(way)*s.sets+set)*ChunkSize
}

func (s *slab) readSet(set uint64) ([ways]slot, error) {
	var b [ways * slotSize]byte
	var slots [ways]slot
	if _, err := s.f.ReadAt(b[:], s.slotOffset(set, 0)); err != nil {
		s.fail(err)
		return slots, err
	}
	for i := range slots {
		slots[i] = decodeSlot(b[i*slotSize:][:slotSize])
	}
	return slots, nil
}

func (s *slab) get(id chunkID, dst []byte) bool {
	set := s.set(id)
	slots, err := s.readSet(set)
	if err != nil {
		return false
	}
	for way, e := range slots {
		if e.id != id || e.length != len(dst) {
			continue
		}
		if _, err := s.f.ReadAt(dst, s.chunkOffset(set, way)); err != nil {
			s.fail(err)
			return false
		}
		if chunkSum(id, dst) != e.sum {
			return false
		}
		s.touch(set, way, e)
		return true
	}
	return false
}

func (s *slab) has(id chunkID) bool {
	slots, err := s.readSet(s.set(id))
	return err == nil && slices.ContainsFunc(slots[:], func(e slot) bool { return e.id == id && e.length > 0 })
}

// touch notes that a slot was used now. Should the slot be given away in this
// very moment, a wrong stamp or length is all that comes of it.
func (s *slab) touch(set uint64, way int, e slot) {
	now := s.now().UnixMilli()
	if now == e.stamp {
		return
	}
	e.stamp = now
	if _, err := s.f.WriteAt(e.encode()[24:], s.slotOffset(set, way)+24); err != nil {
		s.fail(err)
	}
}

func (s *slab) put(id chunkID, data []byte) bool {
	set := s.set(id)
	lock := &s.writing[set%uint64(len(s.writing))]
	lock.Lock()
	defer lock.Unlock()
	slots, err := s.readSet(set)
	if err != nil {
		return false
	}
	way := victim(slots, id)
	if _, err := s.f.WriteAt(data, s.chunkOffset(set, way)); err != nil {
		s.fail(err)
		return false
	}
	e := slot{id: id, sum: chunkSum(id, data), stamp: s.now().UnixMilli(), length: len(data)}
	if _, err := s.f.WriteAt(e.encode(), s.slotOffset(set, way)); err != nil {
		s.fail(err)
		return false
	}
	return true
}

// victim returns the slot that id is to be put in: its own, or else the one
// whose last use is longest ago, an empty one first.
func victim(slots [ways]slot, id chunkID) int {
	oldest := 0
	for way, e := range slots {
		if e.id == id {
			return way
		}
		if e.stamp < slots[oldest].stamp {
			oldest = way
		}
	}
	return oldest
}

// fail remembers an error of the file. The end of the file is none: another
// process is making it anew.
func (s *slab) fail(err error) {
	if !errors.Is(err, io.EOF) {
		s.failure.Store(&err)
	}
}

func (s *slab) lastError() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// close also gives up the lock.
func (s *slab) close() error { return s.f.Close() }
