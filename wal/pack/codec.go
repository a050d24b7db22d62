package pack

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The first byte of every block before it is sealed.
const (
	codecRaw         = 0 // the rest is the plaintext
	codecZstd        = 1 // the rest is one zstd frame that states its content size
	codecDifferences = 2 // the same, of the differences of pages (difference.go); groups only
)

// maxRatio is the most bytes of content that one byte of a zstd frame can stand
// for: four bytes repeat one byte 128 KiB times, and nothing says more with less.
const maxRatio = 32 << 10

// DecodeSlack is how many bytes behind its result a decoder may write to when it
// is given that much memory more than the result needs: it copies in larger steps
// then, and takes a fifth less time.
const DecodeSlack = 16

// Zstandard coders keep nothing between calls but take hundreds of kilobytes
// each. They are pooled for the whole process, and the garbage collector takes
// back those not in use, so that thousands of idle packs cost nothing.
var (
	encoders = sync.Pool{New: func() any {
		e, err := zstd.NewWriter(nil,
			// On groups of 64 KiB of SQLite pages the default level takes 1.4 times
			// as long and saves 2 %.
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false), // every block is sealed
			zstd.WithSingleSegment(true),
			zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic("pack: zstd encoder: " + err.Error()) // constant options
		}
		return e
	}}
	decoders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic("pack: zstd decoder: " + err.Error()) // constant options
		}
		return d
	}}
)

// appendBlock appends the block for plain to dst: compressed where that is
// shorter, unless raw.
func appendBlock(dst, plain []byte, raw bool) []byte {
	n := len(dst)
	if !raw {
		dst = appendFrame(append(dst, codecZstd), plain)
		if len(dst)-n < 1+len(plain) {
			return dst
		}
	}
	dst = slices.Grow(dst[:n], 1+len(plain)+maxOverhead)
	return append(append(dst, codecRaw), plain...)
}

// appendFrame appends a zstd frame of content to dst.
func appendFrame(dst, content []byte) []byte {
	e := encoders.Get().(*zstd.Encoder)
	defer encoders.Put(e)
	return e.EncodeAll(content, dst)
}

// The errors of decodeBlock become part of a CorruptError.
var (
	errEmptyBlock = errors.New("empty block")
	errNoFrame    = errors.New("no zstd frame that states its size")
)

// decodeBlock decodes a block whose plaintext has at most limit bytes and is not
// of differences. The result lies in dst's memory when that is large enough, of
// which DecodeSlack bytes behind it may be written to as well, or in new memory;
// with a nil dst, it may lie in block itself.
func decodeBlock(dst, block []byte, limit int) ([]byte, error) {
	if len(block) == 0 {
		return nil, errEmptyBlock
	}
	codec, data := block[0], block[1:]
	switch codec {
	case codecRaw:
		if len(data) > limit {
			return nil, fmt.Errorf("block of %d bytes where %d are the most", len(data), limit)
		}
		if dst != nil {
			data = append(dst[:0], data...)
		}
		return data, nil
	case codecZstd:
		return decodeFrame(dst, data, limit)
	}
	return nil, fmt.Errorf("unknown codec %d", codec)
}

// decodeFrame decodes a zstd frame whose content has at most limit bytes, as
// decodeBlock does.
func decodeFrame(dst, data []byte, limit int) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(data); err != nil {
		return nil, err
	}
	if h.Skippable || !h.HasFCS {
		return nil, errNoFrame
	}
	if h.FrameContentSize > uint64(limit) {
		return nil, fmt.Errorf("block of %d bytes where %d are the most", h.FrameContentSize, limit)
	}
	if h.FrameContentSize > maxRatio*uint64(len(data)) {
		return nil, fmt.Errorf("%d bytes that state %d as their content", len(data), h.FrameContentSize)
	}
	size := int(h.FrameContentSize)
	if dst != nil && cap(dst) < size { // it will be used again
		dst = make([]byte, 0, size+DecodeSlack)
	}
	dst = slices.Grow(dst[:0], size)
	room := size
	if cap(dst) >= size+DecodeSlack {
		room += DecodeSlack
	}
	d := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(d)
	plain, err := d.DecodeAll(data, dst[:0:room])
	if err != nil {
		return nil, err
	}
	if len(plain) != size {
		return nil, errNoFrame
	}
	return plain, nil
}
