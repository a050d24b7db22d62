package live

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// shellSQL runs the stock shell on a database in one process of its own.
func shellSQL(ctx context.Context, db, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "sqlite3", "-batch", "-bail", db)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("sqlite3: %w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func needSQLite(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("no sqlite3 shell: ", err)
	}
}

// Processes that share a database through the mount exclude each other and see
// each other's commits, by locks and, in WAL mode, by the mapped wal-index.
func TestProcessesShareDatabase(t *testing.T) {
	needSQLite(t)
	const processes = 4
	for mode, increments := range map[string]int{"wal": 50, "delete": 20, "truncate": 10, "persist": 10} {
		t.Run(mode, func(t *testing.T) {
			dir, _ := mounted(t, Options{}, nil)
			db := filepath.Join(dir, "counter.db")
			got, err := shellSQL(t.Context(), db, `PRAGMA journal_mode=`+mode+`;
				CREATE TABLE counter (n INTEGER, by TEXT); INSERT INTO counter VALUES (0, ''); CREATE TABLE log (n INTEGER);`)
			if err != nil || got != mode {
				t.Fatalf("%q, %v", got, err)
			}
			g, ctx := errgroup.WithContext(t.Context())
			for p := range processes {
				g.Go(func() error {
					var script strings.Builder
					script.WriteString(".timeout 60000\nPRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=20;\n")
					for range increments {
						// What was read must still hold when it is written.
						fmt.Fprintf(&script, "BEGIN IMMEDIATE; INSERT INTO log SELECT n+1 FROM counter; UPDATE counter SET n=n+1, by='%d'; COMMIT;\n", p)
					}
					_, err := shellSQL(ctx, db, script.String())
					return err
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			const check = `SELECT n FROM counter; SELECT count(*), count(DISTINCT n), max(n) FROM log; PRAGMA integrity_check;`
			got, err = shellSQL(t.Context(), db, check)
			n := processes * increments
			if want := fmt.Sprintf("%d\n%d|%d|%d\nok", n, n, n, n); err != nil || got != want {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		})
	}
}

// A reader that stays connected sees, in its next transaction, what another
// process has committed meanwhile: what the kernel cached for it is never old.
func TestReaderSeesOtherProcess(t *testing.T) {
	needSQLite(t)
	for _, mode := range []string{"wal", "delete"} {
		t.Run(mode, func(t *testing.T) {
			dir, _ := mounted(t, Options{}, nil)
			db := filepath.Join(dir, "db")
			if _, err := shellSQL(t.Context(), db, `PRAGMA journal_mode=`+mode+`; CREATE TABLE t (a); INSERT INTO t VALUES (0);`); err != nil {
				t.Fatal(err)
			}
			reader := exec.Command("sqlite3", "-batch", db)
			in, err := reader.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := reader.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			reader.Stderr = t.Output()
			if err := reader.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for i := range 20 {
				fmt.Fprintln(in, "SELECT a FROM t;")
				if !lines.Scan() || lines.Text() != fmt.Sprint(i) {
					t.Fatalf("read %q, want %d", lines.Text(), i)
				}
				if _, err := shellSQL(t.Context(), db, `.timeout 10000
					UPDATE t SET a=a+1;`); err != nil {
					t.Fatal(err)
				}
			}
			in.Close()
			if err := reader.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// After kill -9 the next mount has everything that was committed.
func TestRemountAfterKill(t *testing.T) {
	needSQLite(t)
	needFUSE(t)
	dir := t.TempDir()
	db := filepath.Join(dir, "app.db")
	daemon := exec.Command("/proc/self/exe", "-test.run=^$")
	daemon.Env = append(os.Environ(), mountChild+"="+dir)
	daemon.Stderr = t.Output()
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer daemon.Process.Kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		t.Fatalf("%q, %v", line, err)
	}
	for i := range 20 {
		_, err := shellSQL(t.Context(), db, fmt.Sprintf(`PRAGMA journal_mode=wal; CREATE TABLE IF NOT EXISTS t (a); INSERT INTO t VALUES (%d);`, i))
		if err != nil {
			t.Fatal(err)
		}
	}
	// A connection is in the middle of a transaction, the log is not empty.
	app := exec.Command("sqlite3", "-batch", db)
	in, err := app.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := app.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "INSERT INTO t VALUES (20); BEGIN IMMEDIATE; INSERT INTO t VALUES (-1); SELECT count(*) FROM t;")
	if line, err := bufio.NewReader(answers).ReadString('\n'); line != "22\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	daemon.Wait()
	in.Close()
	app.Wait()
	mountAt(t, dir, Options{}, nil)
	got, err := shellSQL(t.Context(), db, `SELECT count(*), min(a), max(a) FROM t; PRAGMA integrity_check;`)
	if want := "21|0|20\nok"; err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// mountChild is the variable of the environment that makes the test program
// mount the directory it names, say so, and serve until it is killed.
const mountChild = "WALBACK_TEST_MOUNT"

func serveMount(dir string) {
	f, err := Mount(dir, Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("mounted")
	f.Wait()
}

// Mounted over itself, the directory shows what it held; unmounted, it is an
// ordinary directory of ordinary SQLite files with what was done meanwhile.
func TestOverItself(t *testing.T) {
	needSQLite(t)
	needFUSE(t)
	dir := t.TempDir()
	db := filepath.Join(dir, "app.db")
	if _, err := shellSQL(t.Context(), db, `PRAGMA journal_mode=wal; CREATE TABLE t (a); INSERT INTO t VALUES ('before');`); err != nil {
		t.Fatal(err)
	}
	f := mountAt(t, dir, Options{}, nil)
	if got, err := shellSQL(t.Context(), db, `INSERT INTO t VALUES ('during'); SELECT a FROM t;`); got != "before\nduring" || err != nil {
		t.Errorf("mounted: %q, %v", got, err)
	}
	write(t, filepath.Join(dir, "note"), "plain")
	unmount(t, f)
	if got, err := shellSQL(t.Context(), db, `SELECT a FROM t; PRAGMA integrity_check;`); got != "before\nduring\nok" || err != nil {
		t.Errorf("unmounted: %q, %v", got, err)
	}
	if got := read(t, filepath.Join(dir, "note")); got != "plain" {
		t.Errorf("unmounted: %q", got)
	}
}

// With a backing directory the mountpoint may be elsewhere, or around it.
func TestBacking(t *testing.T) {
	needFUSE(t)
	top := t.TempDir()
	dir, backing := filepath.Join(top, "mount"), filepath.Join(top, "mount", "backing")
	if err := os.MkdirAll(backing, 0755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(backing, "f"), "content")
	f := mountAt(t, dir, Options{Backing: backing}, nil)
	if got := read(t, filepath.Join(dir, "f")); got != "content" {
		t.Errorf("read %q", got)
	}
	unmount(t, f)
	if _, err := mount(backing, Options{Backing: dir}, nil); err == nil || !strings.Contains(err.Error(), "inside the backing directory") {
		t.Errorf("a mountpoint inside the backing directory: %v", err)
	}
	if _, err := mount(dir, Options{Backing: filepath.Join(top, "none")}, nil); !os.IsNotExist(err) && (err == nil || !strings.Contains(err.Error(), "no such file")) {
		t.Errorf("a missing backing directory: %v", err)
	}
}
