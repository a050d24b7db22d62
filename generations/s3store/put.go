package s3store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/walback/walback/generations"
)

const (
	maxParts    = 10_000 // of one object, S3 User Guide, "Multipart upload limits"
	partsAtOnce = 4      // requests in flight for one object
)

// Put implements generations.Store.
func (s *Store) Put(ctx context.Context, key string, body *io.SectionReader) error {
	if err := s.check("put", key); err != nil {
		return err
	}
	if body.Size() > s.o.PartSize {
		return s.fail(ctx, "put", key, s.putParts(ctx, key, body))
	}
	err := s.retry(ctx, func(ctx context.Context, w *watch) error {
		src := newSource(body, 0, body.Size(), w)
		_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &s.o.Bucket, Key: aws.String(s.root + key),
			Body: src, ContentLength: aws.Int64(body.Size()), IfNoneMatch: aws.String("*"),
		})
		return src.explain(err)
	})
	return s.fail(ctx, "put", key, err)
}

// source is what an attempt sends: n bytes of what is being put.
type source struct {
	*io.SectionReader
	w *watch
	// err is what reading said, except the end. The transport may still be
	// reading when the request has failed.
	err atomic.Pointer[sourceError]
}

// sourceError is that what is to be put cannot be read.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

func newSource(body *io.SectionReader, off, n int64, w *watch) *source {
	return &source{SectionReader: io.NewSectionReader(body, off, n), w: w}
}

// Read tells the watch that the request moves on.
func (b *source) Read(p []byte) (int, error) {
	n, err := b.SectionReader.Read(p)
	b.w.moved()
	if err != nil && err != io.EOF {
		b.err.CompareAndSwap(nil, &sourceError{err})
	}
	return n, err
}

// explain gives the source's own error in place of what the request made of it.
func (b *source) explain(err error) error {
	if e := b.err.Load(); err != nil && e != nil {
		return e
	}
	return err
}

// errStartOver is that an upload in parts is gone or was in conflict with
// another, and has to be made again.
var errStartOver = errors.New("the upload has to be made again")

// putParts puts a large object in parts, which appear as one object when the
// last request names them.
func (s *Store) putParts(ctx context.Context, key string, body *io.SectionReader) error {
	for n := 1; ; n++ {
		err := s.upload(ctx, key, body)
		if !errors.Is(err, errStartOver) {
			return err
		}
		if n == s.o.Attempts {
			return &gaveUpError{n, err}
		}
		if err := pause(ctx, s.o.Pause, n); err != nil {
			return err
		}
	}
}

// upload makes one multipart upload, and takes it back if it fails.
func (s *Store) upload(ctx context.Context, key string, body *io.SectionReader) error {
	var id *string
	err := s.retry(ctx, func(ctx context.Context, _ *watch) error {
		out, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
			Bucket: &s.o.Bucket, Key: aws.String(s.root + key)})
		if err == nil {
			id = out.UploadId
		}
		return err
	})
	if err != nil {
		return err
	}
	parts, err := s.sendParts(ctx, key, id, body)
	if err == nil {
		err = s.complete(ctx, key, id, parts)
	}
	if err != nil {
		s.abort(ctx, key, id)
	}
	return err
}

// sendParts sends body's parts, a few at a time.
func (s *Store) sendParts(ctx context.Context, key string, id *string, body *io.SectionReader) ([]types.CompletedPart, error) {
	size := max(s.o.PartSize, (body.Size()+maxParts-1)/maxParts)
	parts := make([]types.CompletedPart, (body.Size()+size-1)/size)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAtOnce)
	for i := range parts {
		number := aws.Int32(int32(i + 1))
		off := int64(i) * size
		n := min(size, body.Size()-off)
		g.Go(func() error {
			return s.retry(gctx, func(ctx context.Context, w *watch) error {
				src := newSource(body, off, n, w)
				out, err := s.client.UploadPart(ctx, &s3.UploadPartInput{
					Bucket: &s.o.Bucket, Key: aws.String(s.root + key), UploadId: id,
					PartNumber: number, Body: src, ContentLength: &n,
				})
				if err == nil {
					parts[i] = types.CompletedPart{PartNumber: number, ETag: out.ETag}
				}
				if _, code := answer(err); code == "NoSuchUpload" { // somebody cleaned up
					return fmt.Errorf("%w: %s", errStartOver, message(err))
				}
				return src.explain(err)
			})
		})
	}
	return parts, g.Wait()
}

// complete makes the object of its parts, if there is none of that key.
func (s *Store) complete(ctx context.Context, key string, id *string, parts []types.CompletedPart) error {
	err := s.retry(ctx, func(ctx context.Context, _ *watch) error {
		_, err := s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &s.o.Bucket, Key: aws.String(s.root + key), UploadId: id, IfNoneMatch: aws.String("*"),
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
		if _, code := answer(err); code == "ConditionalRequestConflict" {
			// S3 User Guide, "Conditional writes": the upload cannot be completed any more.
			return fmt.Errorf("%w: %s", errStartOver, message(err))
		}
		return err
	})
	if _, code := answer(err); code != "NoSuchUpload" {
		return err
	}
	// Either an attempt of ours was carried out and its reply lost, or somebody
	// removed the upload.
	b, getErr := s.Get(ctx, key, 0, 0)
	switch {
	case getErr == nil:
		b.Close()
		return generations.ErrExists
	case errors.Is(getErr, generations.ErrNotFound):
		return fmt.Errorf("%w: %s", errStartOver, message(err))
	}
	return getErr
}

// abortTimeout bounds taking back an upload when the caller's context has ended.
const abortTimeout = 10 * time.Second

// abort takes an upload back as well as it can: the error that led here is the
// one to tell, and a lifecycle rule removes what stays.
func (s *Store) abort(ctx context.Context, key string, id *string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, _ = s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: &s.o.Bucket, Key: aws.String(s.root + key), UploadId: id})
}
