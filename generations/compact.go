package generations

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"time"
)

// Compaction merges the segments of clients in a store, from anywhere: the mount
// that writes them may go on, and others may compact the same. It reads all that
// it merges from the store, through files in the directory for temporary files.
// Interrupted at any point, it has lost nothing; the next one goes on.
type Compaction struct {
	leaving
	packs Opener
}

// NewCompaction returns a Compaction in s. What has been merged is deleted after
// the grace; zero is right only when nobody else reads or writes.
// packs opens what is in s, for making maps; when nil, none are made.
func NewCompaction(s Store, grace time.Duration, packs Opener) *Compaction {
	return &Compaction{leaving: leaving{store: s, grace: grace}, packs: packs}
}

// Compacted is what a compaction has made of one generation.
type Compacted struct {
	Generation ID
	Merged     int // segments
	Into       int // segments that have taken their place
	Segments   int // that make up the generation now
	Maps       int // that were made of final segments
	Leftovers  int // of earlier merges, which are to be deleted too
}

// Merge merges the segments of a client, and yields what it has made of each
// generation, oldest first.
func (c *Compaction) Merge(ctx context.Context, client string) ([]Compacted, error) {
	var ids []ID
	for name, err := range c.store.Dirs(ctx, clientPrefix(client)) {
		if err != nil {
			return nil, err
		}
		if id, err := ParseID(name); err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var all []Compacted
	for _, id := range ids {
		done := Compacted{Generation: id}
		var err error
		for range maxTries { // somebody else may merge, and delete, the same
			if err = c.mergeGeneration(ctx, client, &done); !isVanished(err) {
				break
			}
		}
		if err == nil && c.packs != nil {
			done.Maps, err = c.mapGeneration(ctx, client, id)
		}
		all = append(all, done)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// mergeGeneration makes of one generation final segments, and one more, in front
// of the newest.
func (c *Compaction) mergeGeneration(ctx context.Context, client string, done *Compacted) error {
	stored, err := storedSegments(ctx, c.store, client, done.Generation)
	if err != nil {
		return err
	}
	e, err := newestEdition(ctx, c.store, client, done.Generation)
	if err != nil {
		return err
	}
	if e != nil { // what it tells of is not merged any more
		stored = slices.DeleteFunc(stored, func(o PlanObject) bool { return max(o.First, o.Last) <= e.Through })
	}
	parts, leftovers := takeInventory(stored)
	done.Segments = len(parts)
	for _, l := range leftovers {
		some, err := c.engine().redundant(ctx, l.member, l.left)
		if err != nil {
			return err
		}
		done.Leftovers += len(some)
		c.replace(some)
	}
	for tail := tailOf(parts); len(tail) > 2; {
		run := fullRun(tail[:len(tail)-1], math.MaxInt)
		if run == nil {
			run = tail[:len(tail)-1]
		}
		one, err := c.engine().merge(ctx, run)
		if err != nil {
			return err
		}
		c.replace(run)
		done.Merged, done.Into = done.Merged+len(run), done.Into+1
		done.Segments -= len(run) - 1
		tail = tailOf(merged(tail, one))
	}
	return nil
}

func (c *Compaction) engine() *merger {
	return &merger{
		store:   c.store,
		create:  createUnnamed,
		local:   func(Object) (*os.File, bool) { return nil, false },
		through: func(f *spoolFile) io.Writer { return f },
		cores:   runtime.GOMAXPROCS(0),
		made:    func(Object, segment) {},
	}
}

// createUnnamed returns a file that goes with the process, however it ends.
func createUnnamed() (*spoolFile, error) {
	f, err := os.CreateTemp("", "walback-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &spoolFile{f, nil}, nil
}
