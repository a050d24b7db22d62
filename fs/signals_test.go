package fs

import (
	"context"
	"fmt"
	"syscall"
	"testing"
)

func TestToEnd(t *testing.T) {
	none := setOf()
	for _, c := range []struct {
		what                              string
		own, shared, blocked, ignored, by signals
		want                              bool
	}{
		{"nothing", none, none, none, none, none, false},
		{"killed", setOf(syscall.SIGKILL), none, none, none, none, true},
		{"Ctrl-C", none, setOf(syscall.SIGINT), none, none, none, true},
		{"Ctrl-C, which it handles", none, setOf(syscall.SIGINT), none, none, setOf(syscall.SIGINT), true},
		{"Ctrl-C of its parent's", none, setOf(syscall.SIGINT), none, setOf(syscall.SIGINT), none, false},
		{"told to end, another thread handles it", none, setOf(syscall.SIGTERM), setOf(syscall.SIGTERM), none, setOf(syscall.SIGTERM), false},
		{"a timer", setOf(syscall.SIGALRM), none, none, none, setOf(syscall.SIGALRM), false},
		{"a timer that ends it", none, setOf(syscall.SIGALRM), none, none, none, true},
		{"a child has ended", none, setOf(syscall.SIGCHLD), none, none, none, false},
		{"the last signal", none, 1 << 63, none, none, 1 << 63, false},
	} {
		status := fmt.Sprintf("Name:\tx\nState:\tS (sleeping)\nSigQ:\t1/95816\nSigPnd:\t%016x\nShdPnd:\t%016x\nSigBlk:\t%016x\nSigIgn:\t%016x\nSigCgt:\t%016x\nCapInh:\t0000000000000000\n",
			c.own, c.shared, c.blocked, c.ignored, c.by)
		if got := toEnd(status); got != c.want {
			t.Errorf("%s: %t, want %t", c.what, got, c.want)
		}
	}
	if !ToEnd(context.Background()) {
		t.Error("nothing is known of who asks, and it may go on")
	}
}
