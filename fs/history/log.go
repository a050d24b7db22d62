package history

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

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
	generation generations.ID
	pageSize   int
	first      wal.TXID
	lines      int64
}

// logText is a log as long as it was at some time.
type logText struct {
	client  *client
	parts   []logPart
	changed wal.Time
}

// newLogText returns the log as far as it is known now.
func (c *client) newLogText(ctx context.Context) (*logText, error) {
	all, err := steady(ctx, c, func() ([]generations.GenerationInfo, error) { return c.timeline.Generations(ctx) })
	if err != nil {
		return nil, err
	}
	t := &logText{client: c, changed: c.tree.mounted}
	for _, g := range all {
		if g.First.ID == 0 {
			continue // no transaction yet
		}
		t.parts = append(t.parts, logPart{g.ID, g.Manifest.PageSize, g.First.ID, g.Span().Len()})
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

// from yields the lines from line n on.
func (t *logText) from(ctx context.Context, n int64) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if n == 0 && !yield(logHead, nil) {
			return
		}
		skip := max(0, n-1)
		for _, p := range t.parts {
			if skip >= p.lines {
				skip -= p.lines
				continue
			}
			if !t.part(ctx, p, skip, yield) {
				return
			}
			skip = 0
		}
	}
}

// part yields the lines of p from line n on; false when no more are wanted.
func (t *logText) part(ctx context.Context, p logPart, n int64, yield func(string, error) bool) bool {
	span := generations.Span{Generation: p.generation, First: p.first + wal.TXID(n), Last: p.first + wal.TXID(p.lines-1)}
	for txn, err := range t.client.timeline.Txns(ctx, span) {
		if err != nil {
			yield("", err)
			return false
		}
		line := fmt.Sprintf(logLine, txn.ID, txn.Time, txn.Pages,
			int64(txn.Pages)*int64(p.pageSize), int64(txn.Size)*int64(p.pageSize), p.generation)
		if !yield(line, nil) {
			return false
		}
	}
	return true
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
	text, err := await(ctx, func() (*logText, error) { return c.currentLogText(ctx) })
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
	text, err := await(ctx, func() (*logText, error) { return l.client.currentLogText(ctx) })
	if err != nil {
		return l.client.tree.failed("log of "+l.client.name, err)
	}
	text.setAttr(&out.Attr)
	return 0
}

// Open takes the log as it is now.
func (l *logNode) Open(ctx context.Context, _ uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	text, err := await(ctx, func() (*logText, error) { return l.client.newLogText(ctx) })
	if err != nil {
		return nil, 0, l.client.tree.failed("log of "+l.client.name, err)
	}
	f := &logFile{text: text}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f, 0, 0
}

// logFile is an open log. It goes on from where the last read ended.
type logFile struct {
	text   *logText
	ctx    context.Context // ends with Release
	cancel context.CancelFunc

	mu   sync.Mutex
	at   int64  // number of line
	line string // "": none yet
	next func() (string, error, bool)
	stop func()
}

var (
	_ gofs.FileReader   = (*logFile)(nil)
	_ gofs.FileReleaser = (*logFile)(nil)
)

func (f *logFile) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	buf, err := await(ctx, func() ([]byte, error) { return f.read(make([]byte, 0, len(dest)), off) })
	if err != nil {
		return nil, f.text.client.tree.failed("reading the log of "+f.text.client.name, err)
	}
	return fuse.ReadResultData(buf), 0
}

// read fills buf up to its capacity, or to the end of the log.
func (f *logFile) read(buf []byte, off int64) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	const length = int64(len(logHead))
	for len(buf) < cap(buf) && off < f.text.size() {
		if err := f.seek(off / length); err != nil {
			return nil, err
		}
		part := f.line[off%length:]
		part = part[:min(len(part), cap(buf)-len(buf))]
		buf = append(buf, part...)
		off += int64(len(part))
	}
	return buf, nil
}

// seek makes line n the current one.
func (f *logFile) seek(n int64) error {
	if f.line != "" && f.at == n {
		return nil
	}
	if f.line == "" || f.at+1 != n {
		f.rest()
		f.next, f.stop = iter.Pull2(f.text.from(f.ctx, n))
	}
	line, err, ok := f.next()
	if err == nil && !ok {
		err = errors.New("the log ended early")
	}
	if err == nil && len(line) != len(logHead) {
		err = fmt.Errorf("line %d of the log has %d bytes", n, len(line))
	}
	if err != nil {
		f.rest()
		return err
	}
	f.at, f.line = n, line
	return nil
}

// rest ends the walk through the log.
func (f *logFile) rest() {
	if f.stop != nil {
		f.stop()
	}
	f.line, f.next, f.stop = "", nil, nil
}

func (f *logFile) Release(context.Context) syscall.Errno {
	f.cancel()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rest()
	return 0
}
