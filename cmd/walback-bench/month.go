package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// What is measured of a month of history. A *cold* question is asked of a mount
// that has just been made, with an empty cache.

// cold asks a question of a past that has cached nothing, and returns what was
// asked of the store for it. delayed keeps every request waiting.
func (h *history) cold(delayed bool, question func(dir string) error) (r requests, err error) {
	dir, cache := h.file("past"), h.file("cache")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return r, err
	}
	d, err := startDaemon(dir, h.walback, "history", h.s3.url(""), dir, "-cache-dir", cache, "-log-level", "warn")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.stop(), os.RemoveAll(cache)) }()
	// What waits for a file of it then waits no more.
	late := context.AfterFunc(h.ctx, func() {
		if err := d.kill(); err != nil {
			h.say("%s", err)
		}
	})
	defer late()
	if err := d.says(h.ctx, "mounted "); err != nil {
		return r, err
	}
	if delayed {
		h.s3.delay.Store(int64(h.delay))
		defer h.s3.delay.Store(0)
	}
	h.s3.counted() // what mounting took
	err = question(filepath.Join(dir, h.made.Client))
	return h.s3.counted(), err
}

// file names a place for something that is in the way later.
func (h *history) file(name string) string { return filepath.Join(h.dir, name) }

// pages reads single pages, as of random instants.
func (h *history) pages() ([]finding, error) {
	var cold, warm, near []requests
	err := h.each(h.instants, func() error {
		// What comes after the last page nobody waits for.
		_, err := h.cold(true, func(dir string) error {
			f, err := os.Open(filepath.Join(dir, h.instant(), database))
			if err != nil {
				return err
			}
			defer f.Close() // only read
			if err := h.readPage(f); err != nil {
				return err
			}
			cold = append(cold, h.s3.counted())
			for range 3 {
				if err := h.readPage(f); err != nil {
					return err
				}
				warm = append(warm, h.s3.counted())
				if err := h.readNear(f); err != nil {
					return err
				}
				near = append(near, h.s3.counted())
			}
			return nil
		})
		return err
	})
	return slices.Concat(requestFindings("a page, cold", cold, bounds{gets: 6, bytes: 2 << 20}),
		requestFindings("another page of the same view, anywhere", warm, bounds{}),
		requestFindings("a page near one that was read", near, bounds{gets: 1, bytes: 64 << 10})), err
}

// readPage reads a random page of a file.
func (h *history) readPage(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.page = h.r.Int64N(info.Size()/int64(h.made.PageSize) - nearby)
	return h.readAt(f, h.page)
}

// nearby is how far a page is from another that is not in the same group, but
// whose place is told by the same index.
const nearby = 40

// readNear reads a page near the one that was read last.
func (h *history) readNear(f *os.File) error { return h.readAt(f, h.page+nearby) }

func (h *history) readAt(f *os.File, page int64) error {
	b := make([]byte, h.made.PageSize)
	_, err := f.ReadAt(b, page*int64(len(b)))
	return err
}

// newestPage reads a page of what has been committed last, which cannot have been
// merged with much yet.
func (h *history) newestPage() ([]finding, error) {
	var cold []requests
	err := h.each(3, func() error {
		r, err := h.cold(true, func(dir string) error {
			f, err := os.Open(filepath.Join(dir, "latest", database))
			if err != nil {
				return err
			}
			defer f.Close() // only read
			return h.readPage(f)
		})
		if err == nil {
			cold = append(cold, r)
		}
		return err
	})
	return requestFindings("a page of the newest transaction, cold", cold, bounds{gets: 24}), err
}

// points asks for one row by its primary key.
func (h *history) points() ([]finding, error) {
	var all []requests
	var took []float64
	err := h.each(h.instants, func() error {
		var seconds float64
		r, err := h.cold(true, func(dir string) error {
			got, err := h.do(job{Do: "account", DB: filepath.Join(dir, h.instant(), database), ReadOnly: true, Count: 1 + h.r.IntN(h.made.Accounts*9/10)})
			seconds = got.Seconds
			return err
		})
		if err == nil {
			all, took = append(all, r), append(took, seconds)
		}
		return err
	})
	return append(requestFindings("a row by its primary key, nothing cached", all, bounds{trips: 8}),
		finding{name: fmt.Sprintf("the same with %s added to every request: time", h.delay), values: took, print: duration}), err
}

// fullScans reads every row of every table.
func (h *history) fullScans() ([]finding, error) {
	var all []requests
	var took []float64
	err := h.each(h.scans, func() error {
		var seconds float64
		r, err := h.cold(false, func(dir string) error {
			got, err := h.do(job{Do: "scan", DB: filepath.Join(dir, h.instant(), database), ReadOnly: true})
			seconds = got.Seconds
			return err
		})
		if err == nil {
			all, took = append(all, r), append(took, seconds)
		}
		return err
	})
	found := requestFindings("full scan of all tables, nothing cached", all, bounds{})
	return append(found, h.ofDatabase("full scan: bytes ÷ compressed database", all, 0),
		finding{name: "full scan: time", values: took, print: duration}), err
}

// ofDatabase compares what was fetched with the compressed database.
func (h *history) ofDatabase(name string, all []requests, most float64) finding {
	return finding{name: name, print: ratio, most: most,
		values: each(all, func(r requests) float64 { return float64(total(r.parts)) / float64(h.made.Compressed) })}
}

// restored restores the database, and fetches the same bytes without doing
// anything with them.
func (h *history) restored() ([]finding, error) {
	var all []requests
	var took, copied, fetched, delayed, delayedFetch []float64
	err := h.each(h.restores, func() error {
		at := h.instant()
		var r requests
		for _, m := range []struct {
			times *[]float64
			delay time.Duration
			do    func() error
		}{
			{&took, 0, func() (err error) { r, err = h.restore(at); return err }},
			{&copied, 0, func() error { return copySynced(h.file("restored"), h.file("copied")) }},
			{&fetched, 0, func() error { return h.s3.fetch(h.ctx, r.parts) }},
			{&delayedFetch, h.delay, func() error { return h.s3.fetch(h.ctx, r.parts) }},
			{&delayed, h.delay, func() error { _, err := h.restore(at); return err }},
		} {
			h.s3.delay.Store(int64(m.delay))
			t, err := timed(m.do)
			h.s3.delay.Store(0)
			if err != nil {
				return err
			}
			*m.times = append(*m.times, t)
		}
		all = append(all, r)
		return os.Remove(h.file("restored"))
	})
	return []finding{
		h.ofDatabase("restore: bytes fetched ÷ compressed database", all, 1.5),
		{name: "restore: GETs", print: number, values: each(all, func(r requests) float64 { return float64(r.gets) })},
		{name: "restore: time", print: duration, values: took},
		{name: "restore: time ÷ (cp + fsync)", print: ratio, values: quotients(took, copied)},
		{name: "restore: time ÷ parallel GETs of the same bytes", print: ratio, values: quotients(took, fetched)},
		{name: fmt.Sprintf("the same with %s added to every request", h.delay), print: ratio, values: quotients(delayed, delayedFetch), most: 1.5},
	}, err
}

// restore restores what was at an instant, and returns what was asked for it. What
// lies in its place goes first: several copies of a large database are too many for
// most disks.
func (h *history) restore(at string) (requests, error) {
	for _, name := range []string{"restored", "copied"} {
		if err := os.Remove(h.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return requests{}, err
		}
	}
	h.s3.counted()
	err := walback{program: h.walback}.restoreFrom(h.ctx, h.s3.url(h.made.Client), h.file("restored"), at)
	return h.s3.counted(), err
}

// stored counts what the store keeps.
func (h *history) stored() ([]finding, error) {
	n, bytes, err := objects(h.root(), func(string) bool { return true })
	if err != nil {
		return nil, err
	}
	m := h.made
	return []finding{
		{name: "objects stored", print: number, values: []float64{float64(n)}, most: 2000},
		{name: fmt.Sprintf("bytes stored (%s) ÷ (3 × the compressed database, %s, + the compressed changes, %s)",
			mega(bytes), mega(m.Compressed), mega(m.CompressedChanges)), print: ratio,
			values: []float64{float64(bytes) / float64(3*m.Compressed+m.CompressedChanges)}, most: 1},
		{name: "bytes written for them ÷ bytes stored", print: ratio, values: []float64{float64(m.Written) / float64(bytes)}},
		{name: "PUTs for a transaction", print: ratio, values: []float64{float64(m.Puts) / float64(m.Transactions)}},
	}, nil
}

// quietFor is how long nothing is asked of a store while nothing happens.
const quietFor = 10 * time.Second

// quiet counts requests while nothing happens: of a mount of the past that has a
// file open, and of a live mount whose commits are shipped.
func (h *history) quiet() ([]finding, error) {
	var past requests
	if _, err := h.cold(false, func(dir string) error {
		f, err := os.Open(filepath.Join(dir, h.instant(), database))
		if err != nil {
			return err
		}
		defer f.Close() // only read
		if err := h.readPage(f); err != nil {
			return err
		}
		past, err = h.silence()
		return err
	}); err != nil {
		return nil, err
	}
	live, err := h.quietMount()
	if err != nil {
		return nil, err
	}
	all := func(r requests) []float64 { return []float64{float64(r.gets + r.lists + r.others)} }
	return []finding{
		{name: fmt.Sprintf("requests in %s of a mount of the past that is idle", quietFor), print: number, values: all(past), most: 0, bounded: true},
		{name: fmt.Sprintf("requests in %s of a live mount that is idle", quietFor), print: number, values: all(live), most: 0, bounded: true},
	}, nil
}

// silence returns what is asked while nothing happens, once what was going on has
// come to its end.
func (h *history) silence() (requests, error) {
	wait := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-h.ctx.Done():
			return h.ctx.Err()
		}
	}
	err := wait(3 * time.Second)
	h.s3.counted()
	err = errors.Join(err, wait(quietFor))
	return h.s3.counted(), err
}

// quietMount is silence of a live mount.
func (h *history) quietMount() (r requests, err error) {
	at, err := makePlace(h.file("live"))
	if err != nil {
		return r, err
	}
	if _, err := h.do(job{Do: "create", DB: at.db(), Bytes: 1 << 20}); err != nil {
		return r, err
	}
	d, err := startDaemon(at.data(), h.walback, "mount", at.data(), h.s3.url("live"), "-cache-dir", at.cache(), "-log-level", "warn")
	if err != nil {
		return r, err
	}
	if err := d.says(h.ctx, "mounted "); err != nil {
		return r, err
	}
	_, err = h.do(job{Do: "fill", DB: at.db(), Synchronous: "NORMAL", Count: 500})
	if err == nil {
		r, err = h.silence()
	}
	live := filepath.Join(h.at.store(), bucket, storePrefix, "live")
	return r, errors.Join(err, d.stop(), at.remove(), os.RemoveAll(live))
}
