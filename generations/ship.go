package generations

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// shipManifest puts generation.json.
func (w *Writer) shipManifest(ctx context.Context, g *lineage) error {
	o := g.object(w.client, ManifestObject)
	body := bytes.NewReader(g.manifest)
	err := w.shipper.store.Put(ctx, o.Key(), io.NewSectionReader(body, 0, body.Size()))
	if errors.Is(err, ErrExists) {
		err = w.sameManifest(ctx, g, o)
	}
	if err == nil {
		err = w.parentStands(ctx, g)
	}
	if err != nil {
		return err
	}
	return w.shipped(g, PlanObject{Object: o, Size: body.Size()}, func() []string {
		g.Manifest, g.manifest = true, nil
		return nil
	})
}

// shipBase puts the image that the generation begins with.
func (w *Writer) shipBase(ctx context.Context, g *lineage) error {
	o := g.object(w.client, SnapshotObject)
	if err := w.checkBase(g, o); err != nil {
		return w.localDamage(err)
	}
	f, size, err := w.shipper.spool.Open(o.Key())
	if err != nil {
		return w.localDamage(err)
	}
	defer f.Close() // only read
	err = w.shipper.store.Put(ctx, o.Key(), io.NewSectionReader(f, 0, size))
	if errors.Is(err, ErrExists) {
		err = w.sameImage(ctx, g, o, f, size)
	}
	if err != nil {
		return err
	}
	return w.shipped(g, PlanObject{Object: o, Size: size}, func() []string {
		g.Snapshot = o.First
		return nil
	})
}

// checkBase reads all of an image that an earlier process has written, because
// the machine may have stopped since. (Pieces are read anyway, to merge them.)
func (w *Writer) checkBase(g *lineage, o Object) error {
	w.mu.Lock()
	check := g.earlier
	w.mu.Unlock()
	if !check {
		return nil
	}
	r, done, err := w.shipper.spool.openPack(o)
	if err != nil {
		return err
	}
	return errors.Join(r.Verify(), done())
}

// shipped notes that o is in the store: first in memory, by note; then in the
// state file; then the spool lets go of it and of what note returns.
func (w *Writer) shipped(g *lineage, o PlanObject, note func() (garbage []string)) error {
	w.mu.Lock()
	w.garbage = append(append(w.garbage, o.Key()), note()...)
	w.account()
	w.unsettled, g.resumed = true, false
	w.mu.Unlock()
	w.shipper.hasPut(o)
	return w.settle()
}

// shipSegment merges waiting pieces into one segment and puts it.
func (w *Writer) shipSegment(ctx context.Context, g *lineage) error {
	pieces := w.nextPieces(g)
	if len(pieces) == 0 {
		return nil
	}
	grace := w.shipper.merging.options.Grace
	if err := w.alone(ctx, g, grace/2); err != nil {
		return err
	}
	o := g.segment(w.client, pieces[0].First)
	making := time.Now()
	seg, err := w.shipper.spool.merge(o, pieces)
	if err != nil {
		return w.localDamage(err)
	}
	defer seg.done() // a leftover is removed when the spool is opened
	info, size := seg.info, seg.body.Size()
	began := time.Now()
	w.mu.Lock()
	w.pace.Begin(began, w.shipper.options.Interval)
	w.mu.Unlock()
	err = w.shipper.store.Put(ctx, o.Key(), seg.body)
	w.mu.Lock()
	w.pace.End(began.Sub(making), time.Since(began))
	w.mu.Unlock()
	if err == nil {
		defer w.shipper.merging.keep(o, seg)
	}
	if errors.Is(err, ErrExists) {
		info, size, err = w.sameSegment(ctx, g, o)
	}
	if err == nil {
		err = w.alone(ctx, g, grace) // it may have taken long
	}
	if err != nil {
		return err
	}
	return w.segmentShipped(g, o, info.Mark, size, began)
}

// maxPieces bounds the files that are open while a segment is made.
const maxPieces = 64

// piecesAtOnce is how many files a segment is made of at most: all segments that
// are made at a time take an eighth of the descriptors, because a gate needs some
// too.
func piecesAtOnce() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1
	}
	return int(min(max(limit.Cur/64, 1), maxPieces))
}

// nextPieces returns the pieces for one segment.
func (w *Writer) nextPieces(g *lineage) []piece {
	most := piecesAtOnce()
	w.mu.Lock()
	defer w.mu.Unlock()
	n, raw := 0, int64(0)
	for n < min(len(g.pieces), most) && (n == 0 || raw+g.pieces[n].raw <= maxRun) {
		raw += g.pieces[n].raw
		n++
	}
	return g.pieces[:n:n]
}

// localDamage makes an object of the spool that is damaged or gone, which is
// what a power loss can leave, a reason to give the generation up.
func (w *Writer) localDamage(err error) error {
	if errors.Is(err, pack.ErrCorrupt) || isVanished(err) {
		return &conflictError{ours: true, what: "the spool has lost what was to be shipped: " + err.Error()}
	}
	return err
}

// segmentShipped notes that transactions up to mark are in the store, by a Put that
// began then.
func (w *Writer) segmentShipped(g *lineage, o Object, mark wal.Mark, size int64, began time.Time) error {
	defer w.shipper.maps.consider(w, g)
	defer w.shipper.merging.consider(w, g)
	return w.shipped(g, PlanObject{Object: o, Size: size}, func() (garbage []string) {
		n := 0
		for n < len(g.pieces) && g.pieces[n].Last <= mark.Txn.ID {
			garbage = append(garbage, g.pieces[n].Key())
			n++
		}
		g.pieces = slices.Delete(slices.Clone(g.pieces), 0, n)
		g.Mark, g.Segment = mark, o.Key()
		g.alone = began
		g.setTail(append(slices.Clip(g.tail), member{PlanObject: PlanObject{Object: o, Size: size}, last: mark.Txn.ID}))
		return garbage
	})
}
