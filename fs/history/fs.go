// Package history mounts the past: a read-only tree in which every instant of
// every database is a path.
//
//	README.txt                       how to use the tree
//	<client>/latest/db.sqlite        the newest transaction
//	<client>/<instant>/db.sqlite     the last transaction at or before it
//	<client>/log                     all transactions, a line each
//	<client>/<more>/...              clients may lie below each other
//
// What an instant may look like is generations.ParseInstant's business. A name
// that is an instant is never a client, "latest" and "log" neither.
//
// A path is resolved when it is looked up; what has been opened does not change
// any more. All paths of one transaction lead to one inode, so the kernel keeps
// its pages once. Directories are told apart by their names too, because the
// kernel allows a directory only one.
//
// How long the kernel may believe a name:
//
//	an instant before the last known commit    nameTimeout: no commit can get in between
//	@index                                     indexTimeout: a fork may take the index over
//	latest, relative, not committed yet        not at all
//	inside an instant                          nameTimeout, also for what is not there
package history

import (
	"errors"
	"log/slog"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/walback/walback/cache"
	wfs "github.com/walback/walback/fs"
	"github.com/walback/walback/generations"
)

const (
	nameTimeout  = time.Hour
	indexTimeout = time.Minute
	// maxRead is the largest read the kernel is to send, in bytes.
	maxRead = 1 << 20
)

// Options of the tree. Store and Cache must be set.
type Options struct {
	Store generations.Store
	// Spool is that of a live mount in the same process; nil when there is none.
	Spool *generations.Spool
	// Cache reads what Store and Spool have.
	Cache *cache.Cache
	// Refresh is called before an instant is resolved that may not have been
	// saved yet. Beside a live mount it saves what is committed in the client, and
	// reports whether the client is the mount's: then all that is new comes from
	// Spool's process, and the store is not asked for it. nil otherwise.
	Refresh func(client string) (own bool, err error)
	// Now is the present, which relative instants are relative to; nil is time.Now.
	Now func() time.Time
	// Logger gets a line for every damaged object and failing store; nil is
	// slog.Default().
	Logger *slog.Logger
	// AllowOther lets those other users look at the past whom the owner and mode of
	// the mountpoint let in.
	AllowOther bool
	// Debug logs every request.
	Debug bool
	// InProcess is for tests, see fs.Options.
	InProcess bool
}

// FS is a mounted tree.
type FS struct {
	*wfs.Server
}

// Mount shows the past at dir and returns when it can be used. Errors are those
// of fs.Mount.
func Mount(dir string, o Options) (*FS, error) {
	if o.Store == nil || o.Cache == nil {
		return nil, errors.New("history: a store and a cache are needed")
	}
	dir, err := wfs.Prepare(dir)
	if err != nil {
		return nil, err
	}
	t := newTree(o)
	if t.door, err = doorOf(dir); err != nil {
		return nil, err
	}
	server, err := wfs.Mount(dir, &dirNode{tree: t}, wfs.Options{
		Kind:            wfs.History,
		Name:            o.Store.String(),
		ReadOnly:        true,
		AllowOther:      o.AllowOther,
		Debug:           o.Debug,
		InProcess:       o.InProcess,
		NegativeTimeout: nameTimeout, // but see notYet
		Logger:          t.logger,
		Tune: func(g *gofs.Options) {
			g.MaxWrite = maxRead // it bounds reads too
			g.DisableXAttrs = true
		},
	})
	if err != nil {
		return nil, err
	}
	return &FS{Server: server}, nil
}

// notYet marks an answer of "no such file" as one that the kernel must not
// remember. (go-fuse gives those without an entry timeout the one for absent
// names.)
func notYet(out *fuse.EntryOut) { out.SetEntryTimeout(time.Nanosecond) }
