package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// The measures of getting something back.

// restore measures writing out a database, as often as copying its file.
func (b *bench) restore() ([]row, error) {
	r := row{name: fmt.Sprintf("restore of %s + %d commits, time ÷ (cp + fsync)", mega(b.scale.past), b.scale.behind), target: "≤ 1.5×", cells: map[string]string{}}
	var copies []float64
	err := b.inTurn(1, b.shippers(), func(s side, at place) error {
		if _, err := b.lookedAfter(s, at, job{Do: "create", Bytes: b.scale.past},
			job{Do: "fill", Synchronous: "NORMAL", Count: b.scale.behind}); err != nil {
			return err
		}
		var took, copied []float64
		for i := range min(b.scale.rounds, 3) {
			t, err := timed(func() error { return s.restore(b.ctx, at, at.file(fmt.Sprintf("restored%d", i)), "") })
			if err != nil {
				return err
			}
			took = append(took, t)
			if t, err = timed(func() error { return copySynced(at.db(), at.file(fmt.Sprintf("copied%d", i))) }); err != nil {
				return err
			}
			copied = append(copied, t)
		}
		copies = append(copies, copied...)
		r.cells[s.name()] = ratios(took, copied)
		return nil
	})
	if err == nil {
		r.cells[sidePlain] = duration(median(copies))
	}
	return []row{r}, err
}

// timed returns how many seconds f takes.
func timed(f func() error) (float64, error) {
	began := time.Now()
	err := f()
	return time.Since(began).Seconds(), err
}

// copySynced copies a file and makes the copy durable.
func copySynced(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // only read
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// firstRow measures a row out of the past from an S3 server, with nothing
// cached, against restoring everything from there, and counts the requests.
func (b *bench) firstRow() ([]row, error) {
	r := row{name: fmt.Sprintf("first row from a past of %s on S3, nothing cached, ÷ full restore", mega(b.scale.past)),
		target: "≤ 0.02, ≤ 6 GETs + the pages read", cells: map[string]string{}}
	if b.versitygw == "" {
		r.cells[sideWalback] = "no S3 server here"
		return []row{r}, nil
	}
	at, err := b.newPlace()
	if err != nil {
		return nil, err
	}
	s3, err := startS3(b.ctx, b.versitygw, at)
	if err != nil {
		return nil, err
	}
	r.cells[sideWalback], err = b.firstRowFrom(s3, at)
	return []row{r}, errors.Join(err, s3.stop(), at.remove())
}

func (b *bench) firstRowFrom(s3 *s3, at place) (string, error) {
	w := walback{program: b.walback}
	if _, err := b.do(job{Do: "create", DB: at.db(), Bytes: b.scale.past}); err != nil {
		return "", err
	}
	d, err := w.mount(b.ctx, at, s3.url(""))
	if err != nil {
		return "", err
	}
	_, err = b.do(job{Do: "fill", DB: at.db(), Synchronous: "NORMAL", Count: b.scale.behind})
	if err := errors.Join(err, d.stop()); err != nil {
		return "", err
	}
	var rows, restores []float64
	var counted requests
	for i := range min(b.scale.rounds, 3) {
		t, err := timed(func() error { return w.restoreFrom(b.ctx, s3.url(database), at.file(fmt.Sprintf("restored%d", i)), "") })
		if err != nil {
			return "", err
		}
		restores = append(restores, t)
		if t, counted, err = b.coldRow(s3, at, i); err != nil {
			return "", err
		}
		rows = append(rows, t)
	}
	return fmt.Sprintf("%s: %s, %d GETs, %d LISTs, %s", ratios(rows, restores), duration(median(rows)),
		counted.gets, counted.lists, kilo(counted.bytes)), nil
}

// coldRow mounts the past, which has cached nothing, and reads one row.
func (b *bench) coldRow(s3 *s3, at place, round int) (t float64, counted requests, err error) {
	dir := at.file(fmt.Sprintf("history%d", round))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, counted, err
	}
	d, err := startDaemon(dir, b.walback, "history", s3.url(""), dir, "-cache-dir", at.file(fmt.Sprintf("cache%d", round)))
	if err != nil {
		return 0, counted, err
	}
	if err := d.says(b.ctx, "mounted "); err != nil {
		return 0, counted, err
	}
	s3.counted() // what mounting took
	row := int(b.scale.past / largeRow / 3)
	got, err := b.do(job{Do: "first row", DB: filepath.Join(dir, database, "latest", database), ReadOnly: true, Count: row})
	counted = s3.counted()
	return got.Seconds, counted, errors.Join(err, d.stop())
}
