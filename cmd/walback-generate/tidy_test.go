package main

import (
	"slices"
	"testing"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/wal"
)

func TestReplaced(t *testing.T) {
	o := func(first, last wal.TXID) generations.Object {
		return generations.Object{Client: "c", Generation: 1, Kind: generations.SegmentObject, First: first, Last: last}
	}
	for _, c := range []struct {
		name string
		all  []generations.Object
		want []generations.Object
	}{
		{"none", nil, nil},
		{"nothing is merged", []generations.Object{o(1, 0), o(2, 0)}, nil},
		{"the first of a merge and the last", []generations.Object{o(1, 9), o(1, 0), o(5, 0), o(9, 0), o(10, 0)},
			[]generations.Object{o(1, 0), o(5, 0), o(9, 0)}},
		{"in whatever order the keys are", []generations.Object{o(1, 0), o(1, 9), o(10, 0)}, []generations.Object{o(1, 0)}},
		{"merged again", []generations.Object{o(1, 0), o(1, 4), o(1, 9), o(2, 0), o(5, 9), o(10, 12), o(10, 0)},
			[]generations.Object{o(1, 0), o(1, 4), o(2, 0), o(5, 9), o(10, 0)}},
	} {
		if got := replaced(c.all); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
