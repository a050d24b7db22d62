package pack

import (
	"bytes"
	"context"
)

// Extent is where a group lies in the object. In a map, Off tells which object it
// is too: groups of different objects are far apart.
type Extent struct {
	Off    int64
	Stored int // bytes
	Count  int // versions
}

// RangeReader is what the source of a Reader may be besides an io.ReaderAt: one
// that brings much at once.
type RangeReader interface {
	// ReadRange fills p with the bytes from off on, telling now and then how many
	// of them have arrived; those do not change any more. It is for reading
	// everything once: what is read like this is kept by nobody.
	ReadRange(ctx context.Context, p []byte, off int64, arrived func(n int)) error
}

// Extent returns where a group lies. It panics when there is no such group.
func (r *Reader) Extent(group int) (Extent, error) {
	e, _, err := r.extent(group)
	return e, err
}

// ReadStored fills b with bytes of the object as they are, from off on, telling
// arrived how many have come, at the end at the latest. Nothing proves them yet.
func (r *Reader) ReadStored(ctx context.Context, b []byte, off int64, arrived func(n int)) error {
	r, off, err := r.part(off)
	if err != nil {
		return err
	}
	if at := off - r.tailAt; at >= 0 {
		copy(b, r.tail[at:at+int64(len(b))])
		arrived(len(b))
		return nil
	}
	if src, ok := r.src.(RangeReader); ok {
		if err := src.ReadRange(ctx, b, off, arrived); err != nil {
			return r.readError(0, len(b), off, err)
		}
		arrived(len(b))
		return nil
	}
	if err := r.readAt(b, off); err != nil {
		return err
	}
	arrived(len(b))
	return nil
}

// OpenGroup returns the pages of the group at e, whose stored bytes ReadStored has
// read. They lie in dst's memory if there is room, otherwise in new memory.
func (r *Reader) OpenGroup(group int, e Extent, stored, dst []byte) (*Pages, error) {
	if dst == nil {
		dst = []byte{} // not in stored
	}
	return r.decodeGroup(dst, stored, group, e)
}

// DecodeGroup returns the pages of the group as OpenGroup does, but one behind the
// other, by slot. It is for groups whose pages are of a row, which are no
// differences.
func (r *Reader) DecodeGroup(group int, e Extent, stored, dst []byte) ([]byte, error) {
	size := e.Count * r.root.PageSize
	if cap(dst) < size {
		dst = make([]byte, 0, size)
	}
	pages, err := r.decodeGroup(dst, stored, group, e)
	if err != nil {
		return nil, err
	}
	if pages.at == nil {
		return pages.plain, nil
	}
	pages.content = bytes.Clone(pages.content) // it may lie in dst
	return pages.appendTo(dst[:0]), nil
}
