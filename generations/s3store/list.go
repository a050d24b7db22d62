package s3store

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/walback/walback/generations"
)

// List implements generations.Store. Objects put or deleted meanwhile are told
// of or not. Keys that no Store takes, like the "directory/" that some tools
// make, are left out.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[generations.Entry, error] {
	return func(yield func(generations.Entry, error) bool) {
		if after > prefix && !strings.HasPrefix(after, prefix) {
			if err := generations.CheckPrefix(prefix); err != nil {
				yield(generations.Entry{}, s.invalid("list", err))
			}
			return // everything below prefix is before after
		}
		in := &s3.ListObjectsV2Input{}
		if after > prefix {
			in.StartAfter = aws.String(s.root + after)
		}
		for page, err := range s.pages(ctx, prefix, in) {
			if err != nil {
				yield(generations.Entry{}, err)
				return
			}
			for _, o := range page.Contents {
				key, err := s.key(page, o.Key)
				if err != nil {
					yield(generations.Entry{}, s.fail(ctx, "list", prefix, err))
					return
				}
				if key <= after || generations.CheckKey(key) != nil {
					continue
				}
				if !yield(generations.Entry{Key: key, Size: aws.ToInt64(o.Size), Put: aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
		}
	}
}

// Dirs implements generations.Store.
func (s *Store) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		in := &s3.ListObjectsV2Input{Delimiter: aws.String("/")}
		for page, err := range s.pages(ctx, prefix, in) {
			if err != nil {
				yield("", err)
				return
			}
			for _, p := range page.CommonPrefixes {
				key, err := s.key(page, p.Prefix)
				if err != nil {
					yield("", s.fail(ctx, "list", prefix, err))
					return
				}
				dir := strings.TrimSuffix(key, "/")
				if generations.CheckKey(dir) != nil {
					continue
				}
				if !yield(strings.TrimPrefix(dir, prefix), nil) {
					return
				}
			}
		}
	}
}

// pages yields the pages of a listing below prefix.
func (s *Store) pages(ctx context.Context, prefix string, in *s3.ListObjectsV2Input) iter.Seq2[*s3.ListObjectsV2Output, error] {
	return func(yield func(*s3.ListObjectsV2Output, error) bool) {
		if err := generations.CheckPrefix(prefix); err != nil {
			yield(nil, s.invalid("list", err))
			return
		}
		in.Bucket = &s.o.Bucket
		in.Prefix = aws.String(s.root + prefix)
		in.EncodingType = types.EncodingTypeUrl // XML cannot say every character
		pages := s3.NewListObjectsV2Paginator(s.client, in)
		for pages.HasMorePages() {
			var page *s3.ListObjectsV2Output
			err := s.retry(ctx, func(ctx context.Context, _ *watch) (err error) {
				page, err = pages.NextPage(ctx)
				return err
			})
			if err != nil {
				yield(nil, s.fail(ctx, "list", prefix, err))
				return
			}
			if !yield(page, nil) {
				return
			}
		}
	}
}

// key gives the key of ours that a listing tells of in its own encoding.
func (s *Store) key(page *s3.ListObjectsV2Output, listed *string) (string, error) {
	key := aws.ToString(listed)
	if page.EncodingType == types.EncodingTypeUrl {
		var err error
		if key, err = url.QueryUnescape(key); err != nil {
			return "", fmt.Errorf("the server lists a key that is not URL-encoded: %w", err)
		}
	}
	key, ok := strings.CutPrefix(key, s.root)
	if !ok {
		return "", fmt.Errorf("the server lists %q below %q", key, s.root)
	}
	return key, nil
}
