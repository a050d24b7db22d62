package generations_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walback/walback/generations"
	"github.com/walback/walback/generations/dirstore"
	"github.com/walback/walback/wal"
	"github.com/walback/walback/wal/pack"
)

// victimDir in the environment makes the test program commit, ship, merge and map
// there until it is killed.
const victimDir = "WALBACK_TEST_VICTIM_DIR"

var (
	kills      = flag.Int("kills", 8, "how often TestKilledAnywhere kills")
	killsEvery = flag.Int("kills.every", 100, "of the commits in front of the kills, TestKilledAnywhere views one of so `many`; of those behind, every one")
)

// victimSeed chooses what is committed: each process makes the same commits.
const victimSeed = 40

// quickly is up to which transaction commits are made in large batches. Behind it
// the tail has enough for a final segment, so the first map is made.
const quickly = 9_970

// commitForEver goes on where the process before it was killed. It prints each
// request to the store, before and after, and what is saved.
func commitForEver(dir string) (err error) {
	store, err := dirstore.New(filepath.Join(dir, "store"), dirstore.Options{Create: true, NoSync: true})
	if err != nil {
		return err
	}
	spool, err := generations.OpenSpool(filepath.Join(dir, "spool"), testURL)
	if err != nil {
		return err
	}
	said := saying{store}
	shipper := generations.NewShipper(said, spool, generations.ShipperOptions{
		OnlyFlush: true, Packs: packs{said, spool}, Merge: generations.MergeOptions{Share: 1, Grace: time.Millisecond},
	})
	w, err := shipper.Database(client, "db.sqlite")
	if err != nil {
		return err
	}
	d := newDatabase(victimSeed, 512)
	base := d.base(false)
	past, ok := w.Resume()
	switch {
	case !ok:
		err = w.Begin(base)
	case past.Ended:
		return fmt.Errorf("the generation has ended at %+v", past.Mark.Txn)
	default:
		for d.last.ID < past.Mark.Txn.ID {
			d.commit()
		}
		if d.last != past.Mark.Txn {
			return fmt.Errorf("resumes at %+v, which was %+v", past.Mark.Txn, d.last)
		}
	}
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	for err == nil {
		n := 1 + r.IntN(3)
		if d.last.ID < quickly {
			n = min(1+r.IntN(1500), quickly-int(d.last.ID))
		}
		for range n {
			w.Append(d.commit())
		}
		if err = w.Save(); err == nil {
			fmt.Println("saved", d.last.ID)
		}
		if err == nil && r.IntN(4) > 0 {
			err = errors.Join(shipper.Flush(context.Background()), w.Err())
		}
	}
	return err
}

// saying is a store that prints what it is asked to change.
type saying struct{ generations.Store }

// Put implements generations.Store.
func (s saying) Put(ctx context.Context, key string, body *io.SectionReader) error {
	fmt.Println("before put", key)
	defer fmt.Println("after put", key)
	return s.Store.Put(ctx, key, body)
}

// Delete implements generations.Store.
func (s saying) Delete(ctx context.Context, key string) error {
	fmt.Println("before delete", key)
	defer fmt.Println("after delete", key)
	return s.Store.Delete(ctx, key)
}

// A process that ships, merges and makes maps is killed around each kind of request
// that it makes, and anywhere between: in the middle of what it does with local
// files. Nothing that was saved is lost, and every single commit is there in the
// end, with its time, index and checksum, and can be viewed and restored by each; and
// after a compaction too.
func TestKilledAnywhere(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(41, 0))
	saved := killWhen(t, dir, fmt.Sprintf("saved %d", quickly), 0)
	awaited := []string{"before put .snap", "after put .snap", "before put -", "after put -", "before delete", "after delete", "saved", "before put"}
	for n := range *kills {
		saved = max(saved, killWhen(t, dir, awaited[n%len(awaited)], time.Duration(r.IntN(3000))*time.Microsecond))
	}
	killWhen(t, dir, "no such line", 0) // one that was left to go on
	store, err := dirstore.New(filepath.Join(dir, "store"), dirstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	spool, err := generations.OpenSpool(filepath.Join(dir, "spool"), testURL)
	if err != nil {
		t.Fatal(err)
	}
	shipper := generations.NewShipper(store, spool, generations.ShipperOptions{Merge: generations.MergeOptions{Off: true}})
	if err := errors.Join(shipper.Flush(t.Context()), shipper.Close(), spool.Close()); err != nil {
		t.Fatal(err)
	}
	last := wantEvery(t, store, false) // on a busy machine none gets as far as a map
	if last < saved {
		t.Errorf("transaction %d was saved; the last one is %d", saved, last)
	}
	compact(t, store)
	wantEvery(t, store, true)
}

// patientFor is how often a victim saves at most before it is killed whatever is
// awaited: what it does next, another may have done already.
const patientFor = 40

// killWhen runs a victim and kills it some time after it has printed a line that has
// all words of awaited. It returns the last transaction that was saved.
func killWhen(t *testing.T, dir, awaited string, later time.Duration) (saved wal.TXID) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	})
	late := time.AfterFunc(30*time.Second, kill)
	defer late.Stop()
	seen, saves := false, 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := lines.Text()
		if _, err := fmt.Sscanf(line, "saved %d", &saved); err != nil && !strings.Contains(line, " put ") && !strings.Contains(line, " delete ") {
			t.Error(line)
		}
		if strings.HasPrefix(line, "saved") {
			saves++
		}
		if !seen && (hasAll(line, awaited) || saves == patientFor) {
			seen = true
			time.AfterFunc(later, kill)
		}
	}
	if err := cmd.Wait(); err == nil || !seen {
		t.Fatalf("%v; it did not get as far as %q, or saved %d times:\n%s", err, awaited, saves, &said)
	}
	return saved
}

func hasAll(line, words string) bool {
	for word := range strings.FieldsSeq(words) {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}

// wantEvery compares every transaction that s has with what the victims committed,
// and returns the last one.
func wantEvery(t *testing.T, s generations.Store, mapped bool) wal.TXID {
	t.Helper()
	p := &keptPacks{packs: packs{s, nil}, readers: make(map[generations.Object]*pack.Reader)}
	tl, err := generations.OpenTimeline(t.Context(), client, s, nil, p)
	if err != nil {
		t.Fatal(err)
	}
	gens, err := tl.Generations(t.Context())
	if err != nil || len(gens) != 1 {
		t.Fatalf("%d generations, %v", len(gens), err)
	}
	if mapped && gens[0].Snapshots < 2 {
		t.Error("no map was made")
	}
	d := newDatabase(victimSeed, 512)
	d.base(false)
	for d.last.ID < gens[0].Last.ID {
		d.commit()
	}
	wantOnce(t, tl, gens, d.history)
	for n, want := range d.history {
		if n < quickly-50 && n%*killsEvery > 0 {
			continue
		}
		for _, i := range []generations.Instant{generations.AtTXID(want.ID), generations.AtTime(want.Time)} {
			err := tl.Use(t.Context(), i, d.last.Time+1, func(plan generations.Plan) error {
				got, err := readPlan(t.Context(), p, plan)
				if err == nil && (plan.Txn != want.TxnInfo || !bytes.Equal(got, want.content)) {
					t.Fatalf("%s shows %+v and not what was committed as %+v; plan %s", i, plan.Txn, want.TxnInfo, plan)
				}
				return err
			})
			if err != nil {
				t.Fatalf("%s: %v", i, err)
			}
		}
	}
	return d.last.ID
}

// keptPacks opens each object once.
type keptPacks struct {
	packs
	mu      sync.Mutex
	readers map[generations.Object]*pack.Reader // guarded by mu
}

func (p *keptPacks) OpenPack(ctx context.Context, o generations.PlanObject) (*pack.Reader, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.readers[o.Object]
	if !ok {
		var err error
		if r, err = p.packs.OpenPack(ctx, o); err != nil {
			return nil, err
		}
		p.readers[o.Object] = r
	}
	return r, nil
}
