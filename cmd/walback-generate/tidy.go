package main

import (
	"context"

	"github.com/walback/walback/generations"
)

// tidy deletes segments that have become part of others. A mount does it after a
// grace, which in the time of the history is over long since.
func tidy(ctx context.Context, s generations.Store, client string) error {
	var segments []generations.Object
	for e, err := range s.List(ctx, client+"/", "") {
		if err != nil {
			return err
		}
		if o, err := generations.ParseKey(e.Key); err == nil && o.Kind == generations.SegmentObject {
			segments = append(segments, o)
		}
	}
	for _, o := range replaced(segments) {
		if err := s.Delete(ctx, o.Key()); err != nil {
			return err
		}
	}
	return nil
}

// replaced returns which segments of one generation, in the order of their keys,
// are part of others. Those that are not merged do not tell their last
// transaction; but what is merged is whole segments.
func replaced(segments []generations.Object) (gone []generations.Object) {
	var widest generations.Object // of those that begin nowhere behind o
	for i, o := range segments {
		for _, same := range segments[i:] {
			if same.First != o.First {
				break
			}
			if same.Last > widest.Last {
				widest = same
			}
		}
		if o != widest && o.First <= widest.Last && o.Last <= widest.Last {
			gone = append(gone, o)
		}
	}
	return gone
}
