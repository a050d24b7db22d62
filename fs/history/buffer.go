package history

import "github.com/hanwen/go-fuse/v2/fuse"

// result is what was read, in a buffer that goes back when it is sent.
type result struct {
	tree *tree
	buf  *[]byte
	n    int
}

var _ fuse.ReadResult = (*result)(nil)

// buffer returns a result with room for n bytes. One that nobody waits for any
// more is left to the garbage collector.
func (t *tree) buffer(n int) *result {
	buf, _ := t.buffers.Get().(*[]byte)
	if buf == nil || cap(*buf) < n {
		b := make([]byte, n)
		buf = &b
	}
	*buf = (*buf)[:n]
	return &result{tree: t, buf: buf}
}

func (r *result) Bytes([]byte) ([]byte, fuse.Status) { return (*r.buf)[:r.n], fuse.OK }

func (r *result) Size() int { return r.n }

func (r *result) Done() { r.tree.buffers.Put(r.buf) }
