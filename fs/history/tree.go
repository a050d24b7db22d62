package history

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	lru "github.com/hashicorp/golang-lru/v2"

	wfs "github.com/walback/walback/fs"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// tree is what all nodes share.
type tree struct {
	Options
	logger   *slog.Logger
	mounted  wal.Time
	door     door // of the root
	clients  *catalogue
	reported *lru.Cache[string, time.Time] // when a failure was logged
	buffers  sync.Pool                     // of *[]byte, for reads

	mu     sync.Mutex
	opened map[string]*client
}

func newTree(o Options) *tree {
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &tree{Options: o, logger: o.Logger, mounted: wal.TimeOf(o.Now()), opened: make(map[string]*client)}
	if t.logger == nil {
		t.logger = slog.Default()
	}
	reported, err := lru.New[string, time.Time](256)
	if err != nil {
		panic("history: " + err.Error()) // only a size below one is refused
	}
	t.reported = reported
	t.clients = newCatalogue(o.Store, o.Spool)
	return t
}

func (t *tree) now() wal.Time { return wal.TimeOf(t.Now()) }

// client returns the client of that name. The error matches
// generations.ErrNoClient when there is none yet.
func (t *tree) client(ctx context.Context, name string) (*client, error) {
	t.mu.Lock()
	c := t.opened[name]
	t.mu.Unlock()
	if c != nil {
		return c, nil
	}
	if err := generations.CheckClient(name); err != nil {
		return nil, generations.ErrNoClient
	}
	began := time.Now()
	timeline, err := generations.OpenTimeline(ctx, name, t.Store, t.Spool, t.Cache)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.opened[name]; c != nil { // somebody was faster
		timeline.Close()
		return c, nil
	}
	c = &client{tree: t, name: name, timeline: timeline, began: began}
	t.opened[name] = c
	return c, nil
}

// exists reports whether name is a client or a directory on the way to one. Most
// names that are looked up without having been listed are those of clients, of which
// an instant is looked up next: that takes their own listing.
func (t *tree) exists(ctx context.Context, name string) (bool, error) {
	if t.clients.known(name) {
		return true, nil
	}
	_, err := t.client(ctx, name)
	if err == nil || !errors.Is(err, generations.ErrNoClient) {
		return err == nil, err
	}
	return t.clients.exists(ctx, name)
}

// failed logs a failure and decides the error number. "No such file" is no
// answer to somebody whose file we could not get at.
func (t *tree) failed(what string, err error) syscall.Errno {
	t.report(what, err)
	if errno := wfs.Errno(err); errno != syscall.ENOENT {
		return errno
	}
	return syscall.EIO
}

// report logs a failure, but not again and again: readers retry.
func (t *tree) report(what string, err error) {
	const again = time.Minute
	if errors.Is(err, context.Canceled) {
		return // the reader was interrupted
	}
	text := err.Error()
	now := time.Now()
	if last, ok := t.reported.Get(text); ok && now.Sub(last) < again {
		return
	}
	t.reported.Add(text, now)
	t.logger.Error(what, "error", text)
}

// identity returns the inode identity that belongs to words: the same ones
// always have the same. 128 bits of a hash make it theirs alone.
func identity(mode uint32, words ...string) gofs.StableAttr {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	a := gofs.StableAttr{
		Mode: mode,
		Ino:  binary.BigEndian.Uint64(sum[0:]) >> 1, // tools print it signed
		Gen:  binary.BigEndian.Uint64(sum[8:]),
	}
	if a.Ino < 2 {
		a.Ino += 2 // 0 is none, 1 the root
	}
	return a
}

// setAttr fills in what everything in the tree has in common.
func setAttr(a *fuse.Attr, mode uint32, size int64, changed wal.Time) {
	t := changed.Std()
	a.Mode = mode
	a.Nlink = 1 // find takes that of a directory for "unknown"
	a.Size = uint64(size)
	a.Blocks = (a.Size + 511) / 512
	a.SetTimes(&t, &t, &t)
	a.Owner = *fuse.CurrentOwner()
}
