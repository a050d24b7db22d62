package history

import (
	"context"
	"fmt"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// The log is text with lines of one length, so its size is known without
// reading it, and a place in it is found by calculation: tail does not read a
// million lines.
const (
	logHead = "     INDEX TIME                             PAGES           BYTES            SIZE GENERATION      \n"
	logLine = "%10d %s %10d %15d %15d %s\n" // as long as logHead
)

// logPart is the part of a log that lists one generation.
type logPart struct {
	generations.Span
	pageSize int
	lines    int64
}

// logText is a log as long as it was at some time.
type logText struct {
	client  *client
	parts   []logPart
	changed wal.Time
}

// newLogText returns the log as far as it is known now.
func (c *client) newLogText(ctx context.Context) (*logText, error) {
	all, err := c.timeline.Generations(ctx)
	if err != nil {
		return nil, err
	}
	t := &logText{client: c, changed: c.tree.mounted}
	for _, g := range all {
		if g.First.ID == 0 {
			continue // no transaction yet
		}
		t.parts = append(t.parts, logPart{g.Span(), g.Manifest.PageSize, g.Span().Len()})
		t.changed = g.Last.Time
	}
	return t, nil
}

// lines counts the lines of the log, the head included.
func (t *logText) lines() int64 {
	n := int64(1)
	for _, p := range t.parts {
		n += p.lines
	}
	return n
}

func (t *logText) size() int64 { return t.lines() * int64(len(logHead)) }

// Lines are made by the chunk, so that the kernel, which reads ahead and out of
// order, has each made once.
const (
	chunkLines = 1024
	keptChunks = 8
)

// chunk returns the lines of chunk n.
func (t *logText) chunk(ctx context.Context, n int64) ([]byte, error) {
	text := make([]byte, 0, chunkLines*len(logHead))
	first, end := n*chunkLines, (n+1)*chunkLines
	if first == 0 {
		text = append(text, logHead...)
	}
	at := int64(1) // line that a part begins with
	for _, p := range t.parts {
		from, to := max(first, at), min(end, at+p.lines)
		if from < to {
			var err error
			if text, err = t.add(ctx, text, p, p.Part(from-at, to-at)); err != nil {
				return nil, err
			}
		}
		at += p.lines
	}
	return text, nil
}

// add appends the lines of a span of p.
func (t *logText) add(ctx context.Context, text []byte, p logPart, span generations.Span) ([]byte, error) {
	for txn, err := range t.client.timeline.Txns(ctx, span) {
		if err != nil {
			return nil, err
		}
		before := len(text)
		text = fmt.Appendf(text, logLine, txn.ID, txn.Time, txn.Pages,
			int64(txn.Pages)*int64(p.pageSize), int64(txn.Size)*int64(p.pageSize), p.Generation)
		if n := len(text) - before; n != len(logHead) {
			return nil, fmt.Errorf("the line of transaction %d of generation %s has %d bytes", txn.ID, p.Generation, n)
		}
	}
	return text, nil
}

// logNode is the log of a client. It grows.
type logNode struct {
	gofs.Inode
	client *client
}

var (
	_ gofs.NodeGetattrer = (*logNode)(nil)
	_ gofs.NodeOpener    = (*logNode)(nil)
)

// log returns the node of c's log in d.
func (d *dirNode) log(ctx context.Context, c *client, out *fuse.EntryOut) (*gofs.Inode, error) {
	node := &logNode{client: c}
	text, err := await(ctx, func(ctx context.Context) (*logText, error) { return c.currentLogText(ctx) })
	if err != nil {
		return nil, err
	}
	text.setAttr(&out.Attr)
	return d.NewInode(ctx, node, identity(syscall.S_IFREG, "log", c.name)), nil
}

func (t *logText) setAttr(a *fuse.Attr) { setAttr(a, fileMode, t.size(), t.changed) }

// currentLogText returns the log with what was committed before it was called.
func (c *client) currentLogText(ctx context.Context) (*logText, error) {
	if err := c.refresh(ctx); err != nil {
		return nil, err
	}
	return c.newLogText(ctx)
}

func (l *logNode) Getattr(ctx context.Context, f gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if open, ok := f.(*logFile); ok {
		open.text.setAttr(&out.Attr)
		return 0
	}
	text, err := await(ctx, func(ctx context.Context) (*logText, error) { return l.client.currentLogText(ctx) })
	if err != nil {
		return l.client.tree.failed("log of "+l.client.name, err)
	}
	text.setAttr(&out.Attr)
	return 0
}

// Open takes the log as it is now.
func (l *logNode) Open(ctx context.Context, _ uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	text, err := await(ctx, func(ctx context.Context) (*logText, error) { return l.client.newLogText(ctx) })
	if err != nil {
		return nil, 0, l.client.tree.failed("log of "+l.client.name, err)
	}
	chunks, err := lru.New[int64, *logChunk](keptChunks)
	if err != nil {
		panic("history: " + err.Error()) // only a size below one is refused
	}
	f := &logFile{text: text, chunks: chunks}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f, 0, 0
}

// logFile is an open log.
type logFile struct {
	text   *logText
	ctx    context.Context // ends with Release
	cancel context.CancelFunc
	chunks *lru.Cache[int64, *logChunk] // by number
}

// logChunk is some lines of a log.
type logChunk struct {
	mu   sync.Mutex // held while text is made
	text []byte     // nil: not made yet
}

var (
	_ gofs.FileReader   = (*logFile)(nil)
	_ gofs.FileReleaser = (*logFile)(nil)
)

func (f *logFile) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	buf, err := await(ctx, func(context.Context) ([]byte, error) { return f.read(make([]byte, 0, len(dest)), off) })
	if err != nil {
		return nil, f.text.client.tree.failed("reading the log of "+f.text.client.name, err)
	}
	return fuse.ReadResultData(buf), 0
}

// read fills buf up to its capacity, or to the end of the log.
func (f *logFile) read(buf []byte, off int64) ([]byte, error) {
	const length = int64(chunkLines * len(logHead))
	for len(buf) < cap(buf) && off < f.text.size() {
		text, err := f.chunk(off / length)
		if err != nil {
			return nil, err
		}
		if off%length >= int64(len(text)) {
			return nil, fmt.Errorf("the log ends at byte %d of %d", off, f.text.size())
		}
		part := text[off%length:]
		part = part[:min(len(part), cap(buf)-len(buf))]
		buf = append(buf, part...)
		off += int64(len(part))
	}
	return buf, nil
}

// chunk returns the lines of chunk n.
func (f *logFile) chunk(n int64) ([]byte, error) {
	c := new(logChunk)
	if known, ok, _ := f.chunks.PeekOrAdd(n, c); ok {
		f.chunks.Get(n) // it is in use
		c = known
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text == nil {
		text, err := f.text.chunk(f.ctx, n)
		if err != nil {
			return nil, err
		}
		c.text = text
	}
	return c.text, nil
}

func (f *logFile) Release(context.Context) syscall.Errno {
	f.cancel()
	return 0
}
