package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/walback/walback/fs"
	"github.com/walback/walback/generations/storetest"
)

// TestMain makes this test binary the walback that scripts run, and the
// applications of the tests that need some in processes of their own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"walback":     func() { os.Exit(supervise(os.Args, os.Stdout, os.Stderr)) },
		"application": runApplication,
		"actor":       runActor,
		"speaker":     runSpeaker,
		"contender":   runContender,
		"stresser":    runStresser,
	})
}

// TestScriptsOnDirectory runs the scripts as people would type them, with a
// directory as the store.
func TestScriptsOnDirectory(t *testing.T) {
	runScripts(t, []string{"both", "file"}, func(env *testscript.Env) error {
		store := filepath.Join(env.WorkDir, "store")
		env.Setenv("ROOT", "file://"+store+"/databases")
		env.Setenv("OBJECTS", store+"/databases")
		return nil
	})
}

// TestScriptsOnS3 runs them with a real S3 server as the store.
func TestScriptsOnS3(t *testing.T) {
	server := storetest.Versitygw(t)
	runScripts(t, []string{"both", "s3"}, func(env *testscript.Env) error {
		for _, v := range os.Environ() {
			if name, value, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
				env.Setenv(name, value)
			}
		}
		// Scripts run at the same time: each has a prefix of its own.
		prefix := filepath.Base(env.WorkDir) + "/databases"
		env.Setenv("BUCKET", server.Bucket)
		env.Setenv("OBJECTS", filepath.Join(server.Dir, prefix))
		env.Setenv("AWS_ENDPOINT_URL", server.Endpoint)
		env.Setenv("ROOT", "s3://"+server.Bucket+"/"+prefix)
		return nil
	})
}

// runScripts runs the scripts in folders of testdata/script; store tells each
// which store to use:
//
//	$ROOT     the replica URL of the root
//	$OBJECTS  the directory with the objects, where the store is one
func runScripts(t *testing.T, folders []string, store func(*testscript.Env) error) {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("scripts mount: %v", err)
	}
	var files []string
	for _, folder := range folders {
		found, err := filepath.Glob(filepath.Join("testdata", "script", folder, "*.txtar"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	testscript.Run(t, testscript.Params{
		Files:               files,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Defer(func() { detachBelow(t, env.WorkDir) })
			// Under the race detector every program would sleep a second at its end.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			env.Setenv("XDG_RUNTIME_DIR", filepath.Join(env.WorkDir, ".tmp"))
			env.Setenv("CACHE", filepath.Join(env.WorkDir, ".tmp", "cache"))
			return store(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails":      cmdFails,
			"flip":       cmdFlip,
			"generation": cmdGeneration,
			"hold":       cmdHold,
			"instant":    cmdInstant,
			"mounted":    cmdMounted,
			"object":     cmdObject,
			"ship":       cmdShip,
			"signal":     cmdSignal,
			"unmounted":  cmdUnmounted,
		},
	})
}

// detachBelow takes down what a script has left mounted, so that removing its
// directory removes nothing else.
func detachBelow(t *testing.T, dir string) {
	mounts, err := fs.Mounts()
	if err != nil {
		t.Error(err)
	}
	for _, m := range slices.Backward(mounts) {
		if strings.HasPrefix(m.Dir, dir+"/") {
			if err := unix.Unmount(m.Dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	}
}
