package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/sync/errgroup"
)

// How bytes are fetched where nothing is done with them.
const (
	fetchPart   = 8 << 20 // bytes in a request
	fetchAtOnce = 32      // requests at the same time
)

// fetch gets parts of objects, and nothing else, as fast as it can: what lies side
// by side in one request, many requests at the same time.
func (s *s3) fetch(ctx context.Context, parts []part) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchAtOnce)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: fetchAtOnce, DisableCompression: true}}
	defer client.CloseIdleConnections()
	for _, p := range together(parts) {
		g.Go(func() error { return s.get(ctx, client, p) })
	}
	return g.Wait()
}

// together returns the same bytes as parts of about fetchPart.
func together(parts []part) []part {
	sorted := slices.SortedFunc(slices.Values(parts), func(a, b part) int {
		return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.from, b.from))
	})
	var whole []part
	for _, p := range sorted {
		if n := len(whole) - 1; n >= 0 && whole[n].path == p.path && p.from <= whole[n].to {
			whole[n].to = max(whole[n].to, p.to)
		} else {
			whole = append(whole, p)
		}
	}
	var cut []part
	for _, p := range whole {
		for ; p.to-p.from > fetchPart; p.from += fetchPart {
			cut = append(cut, part{p.path, p.from, p.from + fetchPart})
		}
		cut = append(cut, p)
	}
	return cut
}

// total returns how many bytes parts are, those counted once that are in several.
func total(parts []part) (n int64) {
	for _, p := range together(parts) {
		n += p.to - p.from
	}
	return n
}

// get reads one part.
func (s *s3) get(ctx context.Context, client *http.Client, p part) error {
	if p.from == p.to {
		return nil
	}
	u := url.URL{Scheme: "http", Host: s.front.Addr().String(), Path: p.path}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", p.from, p.to-1))
	empty := sha256.Sum256(nil)
	payload := hex.EncodeToString(empty[:])
	r.Header.Set("X-Amz-Content-Sha256", payload)
	who := aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(ctx, who, r, payload, "s3", os.Getenv("AWS_REGION"), time.Now()); err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close() // only read
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil && n != p.to-p.from {
		err = fmt.Errorf("%s: %s, %d bytes instead of %d", p.path, answer.Status, n, p.to-p.from)
	}
	return err
}
