// Package s3store is the generations.Store in a bucket of S3, or of a server
// that speaks its protocol.
//
// # What is retried here, and what is not
//
// An attempt that fails for a reason that may pass is repeated with growing
// pauses, Options.Attempts times within a few seconds, and within the caller's
// context: no connection, a connection that broke or on which nothing moves,
// throttling, 408, 409, 429 and 5xx. A body that breaks off is continued where
// it ended. Then the error goes to the caller, who decides whether to try for
// ever (the shipper) or to tell a person.
//
// Errors that match ErrNotFound, ErrExists, ErrNoBucket and ErrDenied are
// answers; they are not retried. An attempt to put that was carried out although
// it failed, its reply lost perhaps, makes the next one answer ErrExists: the
// caller has to look.
//
// # What a bucket needs
//
// The permissions s3:GetObject, s3:PutObject, s3:DeleteObject, s3:ListBucket and
// s3:AbortMultipartUpload, and a server that obeys If-None-Match on PutObject
// and CompleteMultipartUpload. A process killed in the middle of a large object
// leaves an invisible multipart upload; a lifecycle rule
// (AbortIncompleteMultipartUpload) removes those.
package s3store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/walback/walback/generations"
)

// Options say which bucket, and how to reach it. Only Bucket is needed.
type Options struct {
	Bucket string
	Prefix string // slash-separated, without slashes at the ends
	// Endpoint is http:// or https:// and a host; empty is AWS, or what
	// AWS_ENDPOINT_URL says.
	Endpoint string
	// Region is empty for what the environment or the SDK's configuration
	// says; with a custom endpoint the last resort is us-east-1.
	Region    string
	PathStyle generations.PathStyle

	// HTTPClient sends the requests; nil is one with the SDK's defaults.
	HTTPClient aws.HTTPClient

	Attempts int           // tries of a request before its error is returned; default 6
	Pause    time.Duration // about before the second attempt, doubling up to 5 s; default 100 ms
	Stall    time.Duration // an attempt on which no byte moves for so long has failed; default 30 s

	// PartSize is how many bytes larger objects are sent at a time, at least
	// 5 MiB (S3's own limit); default 16 MiB. Smaller objects are one request.
	PartSize int64
}

// Store is a generations.Store in a bucket. It has nothing to close: idle
// connections close by themselves.
type Store struct {
	o      Options // with defaults filled in
	root   string  // what keys begin with in the bucket: "" or ends in a slash
	client *s3.Client
}

var _ generations.Store = (*Store)(nil)

// New makes ready to use a bucket with credentials from the SDK's default chain
// (environment, ~/.aws, instance metadata). It sends nothing: whether the bucket
// exists and the credentials are good shows in the first operation.
func New(ctx context.Context, o Options) (*Store, error) {
	if o.Bucket == "" {
		return nil, errors.New("s3store: no bucket given")
	}
	if o.Prefix != "" {
		if err := generations.CheckKey(o.Prefix); err != nil {
			return nil, fmt.Errorf("s3store: prefix: %w", err)
		}
	}
	if o.Attempts <= 0 {
		o.Attempts = 6
	}
	if o.Pause <= 0 {
		o.Pause = 100 * time.Millisecond
	}
	if o.Stall <= 0 {
		o.Stall = 30 * time.Second
	}
	if o.PartSize <= 0 {
		o.PartSize = 16 << 20
	}
	s := &Store{o: o}
	if o.Prefix != "" {
		s.root = o.Prefix + "/"
	}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// connect makes the client.
func (s *Store) connect(ctx context.Context) error {
	// AWS_CA_BUNDLE is obeyed for this type of client only.
	hc := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns = 256                   // as many as a restore uses at a time
		t.MaxIdleConnsPerHost = t.MaxIdleConns // all go to one host
	})
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithHTTPClient(hc),
		config.WithLogger(logging.Nop{}), // what matters comes back as an error
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	)
	if err != nil {
		return fmt.Errorf("open %s: AWS configuration: %s: correct it, see AWS_PROFILE and AWS_CONFIG_FILE", s, oneLine(err))
	}
	if s.o.HTTPClient != nil {
		cfg.HTTPClient = s.o.HTTPClient
	}
	if s.o.Region != "" {
		cfg.Region = s.o.Region
	}
	cfg.Credentials = credentials{cfg.Credentials}
	noRegion := false
	s.client = s3.NewFromConfig(cfg, func(so *s3.Options) {
		if s.o.Endpoint != "" {
			so.BaseEndpoint = aws.String(s.o.Endpoint)
		}
		custom := so.BaseEndpoint != nil // also from AWS_ENDPOINT_URL
		so.UsePathStyle = s.o.PathStyle == generations.PathStyleOn ||
			custom && s.o.PathStyle == generations.PathStyleAuto
		if so.Region == "" {
			noRegion = !custom
			so.Region = "us-east-1"
		}
		so.Retryer, so.RetryMaxAttempts = aws.NopRetryer{}, 0 // see retry
	})
	if noRegion {
		return fmt.Errorf("open %s: no region given: add ?region=… to the URL or set AWS_REGION", s)
	}
	return nil
}

// credentials marks what its provider reports, so that the error can be told
// from one of the request itself.
type credentials struct{ aws.CredentialsProvider }

type credentialsError struct{ error }

func (e credentialsError) Unwrap() error { return e.error }

// Retrieve implements aws.CredentialsProvider.
func (c credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	v, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		err = credentialsError{err}
	}
	return v, err
}

// String is the store's URL.
func (s *Store) String() string {
	return generations.URL{Scheme: "s3", Bucket: s.o.Bucket, Prefix: s.o.Prefix,
		Endpoint: s.o.Endpoint, Region: s.o.Region, PathStyle: s.o.PathStyle}.String()
}

// check tells why key cannot be a key.
func (s *Store) check(op, key string) error {
	if err := generations.CheckKey(key); err != nil {
		return s.invalid(op, err)
	}
	if n := len(s.root) + len(key); n > maxKey {
		return s.invalid(op, fmt.Errorf("key %q has %d bytes with the prefix; S3 takes at most %d", key, n, maxKey))
	}
	return nil
}

const maxKey = 1024 // bytes of UTF-8, S3 User Guide, "Naming Amazon S3 objects"

// Delete implements generations.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.check("delete", key); err != nil {
		return err
	}
	err := s.retry(ctx, func(ctx context.Context, _ *watch) error {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{
			Bucket: &s.o.Bucket, Key: aws.String(s.root + key)})
		return err
	})
	if err = s.fail(ctx, "delete", key, err); errors.Is(err, generations.ErrNotFound) {
		return nil
	}
	return err
}

// name is how errors call the object key, or the place of a listing.
func (s *Store) name(key string) string {
	return "s3://" + s.o.Bucket + "/" + strings.TrimSuffix(s.root+key, "/")
}
