package cache

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzChunkFile damages the file of chunks. A chunk that is found is the one that
// was put, and one that is put again is found.
func FuzzChunkFile(f *testing.F) {
	header := encodeHeader(1)
	f.Add(uint64(1), byte(3), uint32(0), []byte(nil), uint32(0))
	f.Add(uint64(2), byte(6), uint32(0), header, uint32(5000))
	f.Add(uint64(3), byte(0x85), uint32(0), encodeHeader(1<<39), uint32(0))
	f.Add(uint64(4), byte(9), uint32(slabHeader+24), []byte{0, 0, 0, 0, 0, 1, 0xff, 0xff}, uint32(0))
	f.Add(uint64(5), byte(2), uint32(slabHeader+ways*slotSize), bytes.Repeat([]byte{7}, 100), uint32(0))
	f.Fuzz(func(t *testing.T, seed uint64, how byte, at uint32, garbage []byte, cut uint32) {
		dir := t.TempDir()
		limit := int64(1+how>>7) * (slabHeader + ways*(slotSize+ChunkSize))
		clock := time.UnixMilli(int64(seed >> 16)) // whatever it says
		open := func() *slab {
			s, err := openSlab(dir, limit, func() time.Time { return clock })
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		chunks := make(map[chunkID][]byte)
		for i := range uint64(how & 7) {
			var id chunkID
			binary.BigEndian.PutUint64(id[8:], seed+i)
			chunks[id] = randomBytes(1+int((seed+i*1000)%ChunkSize), seed+i)
		}
		s := open()
		for id, data := range chunks {
			if !s.put(id, data) {
				t.Fatal(s.lastError())
			}
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		spoil(t, filepath.Join(dir, slabName), int64(at), garbage, int64(cut))
		s = open()
		defer s.close()
		for id, data := range chunks {
			got := make([]byte, len(data))
			if s.get(id, got) && !bytes.Equal(got, data) {
				t.Fatalf("chunk %x: wrong bytes", id)
			}
		}
		for id, data := range chunks {
			got := make([]byte, len(data))
			if s.put(id, data) && !(s.has(id) && s.get(id, got) && bytes.Equal(got, data)) {
				t.Fatalf("chunk %x was put and is not there", id)
			}
		}
	})
}

// spoil writes garbage into a file at an offset, and cuts off the last bytes.
func spoil(t *testing.T, name string, at int64, garbage []byte, cut int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(garbage, at%info.Size()); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(info.Size() - cut%info.Size()); err != nil {
		t.Fatal(err)
	}
}
