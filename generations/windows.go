package generations

import (
	"cmp"
	"io"
)

// windows reads an object from its beginning to its end in few requests, though
// asked for little at a time: by ranges of the size of window, of which it keeps
// two, because a reader goes through the pages and their index. It is for one
// goroutine.
type windows struct {
	object storedBytes
	size   int64
	window int64
	kept   [2]struct {
		off  int64
		data []byte
	}
}

// ReadAt implements io.ReaderAt.
func (w *windows) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at := off + int64(n)
		if at >= w.size {
			return n, io.EOF
		}
		data, err := w.at(at)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], data)
	}
	return n, nil
}

// at returns bytes from off on.
func (w *windows) at(off int64) ([]byte, error) {
	for i := range w.kept {
		k := w.kept[i]
		if off >= k.off && off < k.off+int64(len(k.data)) {
			w.kept[0], w.kept[1] = w.kept[i], w.kept[1-i]
			return k.data[off-k.off:], nil
		}
	}
	begin := off
	if w.size <= w.window {
		begin = 0
	}
	older := w.kept[1].data
	w.kept[1].data = nil
	n := min(w.window, w.size-begin)
	if int64(cap(older)) < n {
		older = make([]byte, n)
	}
	data := older[:n]
	if n, err := w.object.ReadAt(data, begin); n < len(data) {
		return nil, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	w.kept[1] = w.kept[0]
	w.kept[0].off, w.kept[0].data = begin, data
	return data[off-begin:], nil
}
