package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/walback/walback/cache"
	"github.com/walback/walback/fs"
	"github.com/walback/walback/fs/history"
	"github.com/walback/walback/fs/live"
	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

// mounted is a live mount and everything that works for it, in the order in
// which it is opened; it is closed in the reverse order. A field is nil until it
// is open.
type mounted struct {
	o       mountOptions
	logger  *slog.Logger
	now     func() time.Time
	began   wal.Time
	url     *fileLock // no other mount ships to the URL
	backing *os.File  // the plain files, opened before anything covers them
	dir     *fileLock // no other mount serves the plain files
	store   generations.Store
	spool   *generations.Spool
	cache   *cache.Cache
	mapping *cache.Cache // what maps are made from, which is read once
	shipper *generations.Shipper
	live    *live.FS
	history *history.FS
	pruner  *pruner // nil: everything is kept

	// opened is closed when live is set, or never will be. The live mount itself
	// calls back before that.
	opened chan struct{}

	mu    sync.Mutex
	paths map[string]string // path below the root of each client that was opened; guarded by mu
}

// openMount mounts what o says and returns when it can be used, or takes down
// again what it had begun.
func openMount(ctx context.Context, o mountOptions, logger *slog.Logger, now func() time.Time) (*mounted, error) {
	m := &mounted{o: o, logger: logger, now: now, began: wal.TimeOf(now()), opened: make(chan struct{}), paths: map[string]string{}}
	for _, step := range []func(context.Context) error{m.openPlaces, m.openStore, m.openLive, m.openHistory, m.openPruner} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, m.abandon())
		}
	}
	return m, nil
}

// openPlaces finds out whether everything is where it has to be, and makes sure
// that no other mount has it.
func (m *mounted) openPlaces(context.Context) (err error) {
	if m.o.dir, err = fs.Prepare(m.o.dir); err != nil {
		return err
	}
	if m.o.history != "" {
		if m.o.history, err = fs.Prepare(m.o.history); err != nil {
			return err
		}
	}
	plain := m.o.backing
	if plain == "" {
		plain = m.o.dir
	}
	if m.backing, err = os.Open(plain); err != nil {
		return fmt.Errorf("the directory of the plain files: %w", err)
	}
	if err := outsideMounts(plain); err != nil {
		return err
	}
	if m.url, err = lockURL(m.o.url, m.o.dir); err != nil {
		return err
	}
	m.dir, err = lockBacking(m.backing, plain, m.o.dir)
	return err
}

// outsideMounts refuses plain files that are reached through a walback mount.
func outsideMounts(plain string) error {
	mounts, err := fs.Mounts()
	if err != nil {
		return err
	}
	for _, other := range mounts {
		if within(plain, other.Dir) {
			return fmt.Errorf("%s lies in the walback mount %s of %s: unmount that first, or choose another directory", plain, other.Dir, other.Source)
		}
	}
	return nil
}

// plainPath is how the plain files are reached, whatever is mounted over them.
func (m *mounted) plainPath() string { return "/proc/self/fd/" + strconv.Itoa(int(m.backing.Fd())) }

// openStore opens the store and what is between it and the mount.
func (m *mounted) openStore(ctx context.Context) (err error) {
	url := m.o.url.String()
	spool := generations.SpoolDir(m.plainPath(), url)
	again, timeout := isDir(spool), probeTimeout
	if again {
		// Until it is mounted again, applications use the plain files, and nothing
		// is captured.
		timeout = againTimeout
	}
	m.store, err = openRootWithin(ctx, timeout, m.o.url, true)
	if unanswered, ok := errors.AsType[*unansweredError](err); ok && again && context.Cause(ctx) == nil {
		m.logger.Warn("the store does not answer; what is committed waits in the spool", "error", unanswered)
		m.store, err = openStore(ctx, m.o.url, true)
	}
	if err != nil {
		return err
	}
	m.spool, err = generations.OpenSpool(spool, url)
	if errors.Is(err, generations.ErrSpoolInUse) {
		return fmt.Errorf("what waits to be shipped from %s to %s is in use by another process: unmount there first", m.o.dir, url)
	}
	if err != nil {
		return err
	}
	if m.cache, err = cache.New(m.store, m.spool, cache.Options{Dir: m.o.cacheDir, MaxBytes: m.o.cacheSize}); err != nil {
		return err
	}
	if m.mapping, err = cache.New(m.store, nil, cache.Options{Dir: m.o.cacheDir, MaxBytes: m.o.cacheSize, Memory: mappingMemory}); err != nil {
		return err
	}
	m.shipper = generations.NewShipper(m.store, m.spool, generations.ShipperOptions{
		Interval: m.o.interval,
		Logger:   m.logger,
		Packs:    m.mapping,
		OnBroken: m.broken,

		SpoolLimit: m.o.spoolLimit,
		OnRoom:     m.room,
	})
	return nil
}

// mappingMemory is what the making of maps keeps decoded: the groups that one leaf
// is made from. In the cache of the history mount it would soon have all of it.
const mappingMemory = 16 << 20

// againTimeout bounds how long a store is waited for that this directory has been
// shipped to before.
const againTimeout = 3 * time.Second

func isDir(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}

// openLive mounts the application's directory.
func (m *mounted) openLive(ctx context.Context) (err error) {
	defer close(m.opened)
	// From here on somebody may be using the mount, so that asking it to end is
	// answered by a clean end.
	if err := context.Cause(ctx); err != nil {
		return err
	}
	m.live, err = live.Mount(m.o.dir, live.Options{
		Backing:     m.o.backing,
		Open:        m.sink,
		Control:     map[string]func() ([]byte, error){"status": m.status},
		Name:        m.o.url.String(),
		AllowOther:  m.o.allowOther,
		Passthrough: m.o.pass,
		Rests:       filepath.Join(m.spool.Dir(), "rests"),
		Logger:      m.logger,
		Now:         m.now,
	})
	return err
}

// openHistory mounts the past, if that was asked for.
func (m *mounted) openHistory(context.Context) (err error) {
	if m.o.history == "" {
		return nil
	}
	m.history, err = history.Mount(m.o.history, history.Options{
		Store:      m.store,
		Spool:      m.spool,
		Cache:      m.cache,
		Refresh:    m.refresh,
		Now:        m.now,
		Logger:     m.logger,
		AllowOther: m.o.allowOther,
	})
	return err
}

// sink returns what takes the commits of the database at path.
func (m *mounted) sink(path string) (live.Sink, error) {
	client, file := generations.ClientOf(path)
	w, err := m.shipper.Database(client, file)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paths[client] = path
	return w, nil
}

// refresh saves what a client has committed, so that the past shows it; false
// when the client is not in the mount, only in the store.
func (m *mounted) refresh(client string) (own bool, err error) {
	path, ok := m.captured(client)
	if !ok {
		return false, nil
	}
	return true, m.live.Save(path)
}

// captured returns the path below the mount of a client that was opened, once
// the mount is up.
func (m *mounted) captured(client string) (string, bool) {
	m.mu.Lock()
	path, ok := m.paths[client]
	m.mu.Unlock()
	<-m.opened
	return path, ok && m.live != nil
}

// broken is told when shipping finds that a client's generation cannot be
// continued. Looking at the database makes the capture find out and begin anew;
// it must not be waited for from here.
func (m *mounted) broken(client string, err error) {
	if !errors.Is(err, generations.ErrSpoolFull) { // then none begins, which has been said
		m.logger.Warn("a new generation begins", "client", client, "reason", err)
	}
	go func() {
		if _, err := m.refresh(client); err != nil && !errors.Is(err, generations.ErrSpoolFull) {
			m.logger.Warn("capture", "client", client, "error", err)
		}
	}()
}

// room is told when the spool has room again for a client whose capture had
// ended because it had none.
func (m *mounted) room(client string) {
	go func() {
		if path, ok := m.captured(client); ok {
			m.live.Retry(path)
		}
	}()
}

// status is the content of the status file. Whoever reads it while the mount
// comes up waits until it can be used.
func (m *mounted) status() ([]byte, error) {
	<-m.opened
	if m.live == nil {
		return nil, errors.New("not mounted")
	}
	s := mountStatus{
		Dir:       m.o.dir,
		URL:       m.o.url.String(),
		History:   m.o.history,
		PID:       os.Getpid(),
		Version:   version(),
		Mounted:   jsonTime(m.began),
		Databases: statusOf(m.live.Databases(), m.shipper.Status()),
	}
	text, err := json.Marshal(s)
	return append(text, '\n'), err
}

// ready is the line that says that everything can be used.
func (m *mounted) ready() string {
	line := fmt.Sprintf("mounted %s: every commit goes to %s", m.o.dir, m.o.url)
	if m.history != nil {
		line += ", the past is at " + m.o.history
	}
	return line
}

// unmountTimeout bounds how long the kernel is waited for to let go of a mount.
const unmountTimeout = 10 * time.Second

// abandon takes down what openMount has begun. What has been captured meanwhile
// stays in the spool.
func (m *mounted) abandon() error {
	ctx, cancel := context.WithTimeout(context.Background(), unmountTimeout)
	defer cancel()
	var live error
	if m.live != nil {
		live = errors.Join(unmount(ctx, m.live, io.Discard), m.live.Close())
	}
	return errors.Join(live, m.release())
}

// close unmounts and ships what is captured, within the time the options give;
// when ctx ends, it leaves at once. It says on w who still uses what; those lose
// it. The error tells what is not in the store: that stays in the spool, and the
// next mount ships it.
//
// An application that still has files of the mount open is served until
// everything is shipped: as soon as the mount is detached, others reach the plain
// files without its locks, and from then on it must be quick.
func (m *mounted) close(ctx context.Context, w io.Writer) error {
	letGo, cancel := context.WithTimeout(ctx, unmountTimeout)
	defer cancel()
	var past error
	var other sync.WaitGroup
	if m.history != nil {
		other.Go(func() { past = m.history.Unmount(letGo) })
	}
	err := m.live.Unmount(letGo)
	other.Wait()
	if m.history != nil {
		past = detached(past, m.history, w)
	}

	ship, cancel := context.WithTimeout(ctx, m.o.shutdown)
	defer cancel()
	// What these leave is told by the Close and the Flush below.
	_ = m.live.Settle(ship)
	if errors.Is(err, fs.ErrBusy) {
		_ = m.shipper.Flush(ship)
	}
	live := errors.Join(detached(err, m.live, w), m.live.Close())
	flushed := m.named(m.shipper.Flush(ship))
	if err := m.live.Remember(); err != nil {
		m.logger.Warn("the next mount will read all databases, because how they were left cannot be remembered", "error", err)
	}
	return errors.Join(past, live, flushed, m.release())
}

// release closes everything but the mounts.
func (m *mounted) release() error {
	var errs []error
	if m.pruner != nil {
		m.pruner.close()
	}
	if m.shipper != nil {
		errs = append(errs, m.shipper.Close())
	}
	for _, c := range []*cache.Cache{m.cache, m.mapping} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if m.spool != nil {
		errs = append(errs, m.spool.Close())
	}
	if m.store != nil {
		errs = append(errs, closeStore(m.store))
	}
	for _, l := range []*fileLock{m.dir, m.url} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	if m.backing != nil {
		errs = append(errs, m.backing.Close())
	}
	return errors.Join(errs...)
}

// named returns err with the plain files called what people call them, now that
// nothing covers them any more.
func (m *mounted) named(err error) error {
	if err == nil {
		return nil
	}
	place := m.o.dir
	if m.o.backing != "" {
		place = m.o.backing
	}
	return errors.New(strings.ReplaceAll(err.Error(), m.plainPath(), place))
}

// tree is a mount that can be taken down.
type tree interface {
	Unmount(ctx context.Context) error
	Detach() error
}

// unmount takes t down. If somebody uses it, that is said on w, and t is
// detached.
func unmount(ctx context.Context, t tree, w io.Writer) error {
	return detached(t.Unmount(ctx), t, w)
}

// detached finishes an Unmount of t that ended with err: a mount in use is
// detached.
func detached(err error, t tree, w io.Writer) error {
	if err == nil {
		return nil
	}
	var busy *fs.BusyError
	if errors.As(err, &busy) {
		fmt.Fprintf(w, "%s; detached from them\n", err)
		return t.Detach()
	}
	return errors.Join(err, t.Detach())
}
