package s3store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/walback/walback/generations"
)

// answer gives the HTTP status and S3 error code that err stands for; 0 and ""
// when no answer came.
func answer(err error) (status int, code string) {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = e.HTTPStatusCode()
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		code = e.ErrorCode()
	}
	return status, code
}

// invalid reports a call that no store can carry out.
func (s *Store) invalid(op string, err error) error {
	return &generations.StoreError{Op: op, Name: s.name(""), Text: err.Error(), Err: fs.ErrInvalid}
}

// fail turns err, of the SDK or of retry, into the one line that people read.
// A nil err stays nil.
func (s *Store) fail(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("%s %s: %w", op, s.name(key), cause)
	}
	if e, ok := errors.AsType[*generations.StoreError](err); ok {
		return e
	}
	e := &generations.StoreError{Op: op, Name: s.name(key), Err: err}
	if g, ok := errors.AsType[*gaveUpError](err); ok {
		e.Text, e.Kind = s.explain(g.err)
		e.Text += fmt.Sprintf(" (%d attempts)", g.attempts)
	} else {
		e.Text, e.Kind = s.explain(err)
	}
	return e
}

// explain says what kind of error err is, and what to do about it.
func (s *Store) explain(err error) (text string, kind error) {
	if e, ok := errors.AsType[credentialsError](err); ok {
		return "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE: " + shortest(e.error), generations.ErrDenied
	}
	if e, ok := errors.AsType[*sourceError](err); ok {
		return "reading what to put: " + oneLine(e.err), nil
	}
	if errors.Is(err, generations.ErrExists) {
		return "object exists", generations.ErrExists
	}
	status, code := answer(err)
	switch code {
	case "NoSuchBucket":
		return "no such bucket: create it, or correct the URL", generations.ErrNoBucket
	case "NoSuchKey": // any other 404 is not about the object
		return "no such object", generations.ErrNotFound
	case "PreconditionFailed":
		return "object exists", generations.ErrExists
	case "InvalidAccessKeyId", "XAdminUserNotFound" /* versitygw's word for it */, "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired":
		return "the credentials are refused (" + code + "): correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE", generations.ErrDenied
	case "RequestTimeTooSkewed":
		return "this machine's clock differs from the server's by too much: set it", generations.ErrDenied
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return "the bucket is in another region or at another endpoint" + regionHint(err), nil
	}
	switch {
	case status == 403 || status == 401:
		return "access denied: give these credentials the permissions for it" + parenthesised(code), generations.ErrDenied
	case status == 412:
		return "object exists", generations.ErrExists
	case status == 501:
		return "this server does not implement what is asked for" + parenthesised(message(err)), nil
	case status != 0:
		return fmt.Sprintf("the server answers %d%s", status, parenthesised(message(err))), nil
	}
	return s.unanswered(err), nil
}

// unanswered explains why no answer came.
func (s *Store) unanswered(err error) string {
	if e, ok := errors.AsType[*stalledError](err); ok {
		return e.Error()
	}
	if what := certificateProblem(err); what != "" {
		return "the server's certificate is not trusted: set AWS_CA_BUNDLE to its authority's: " + what
	}
	if _, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		where := s.o.Endpoint
		if where == "" {
			where = "S3"
		}
		return "cannot reach " + where + ": " + shortest(err)
	}
	return oneLine(err)
}

// certificateProblem says what is wrong with the server's certificate, if that is it.
func certificateProblem(err error) string {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return oneLine(e.Err)
	}
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return oneLine(e)
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		return oneLine(e)
	}
	return ""
}

// regionHint names the region that the server's answer names.
func regionHint(err error) string {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok && e.Response != nil {
		if r := e.Response.Header.Get("X-Amz-Bucket-Region"); r != "" {
			return ": write ?region=" + r
		}
	}
	return ": write ?region=… or ?endpoint=…" + parenthesised(message(err))
}

// message is what the server says of the error, with its code.
func message(err error) string {
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return ""
	}
	text := e.ErrorCode()
	if m := e.ErrorMessage(); m != "" && m != text {
		text += ": " + m
	}
	return strings.Join(strings.Fields(text), " ")
}

func parenthesised(text string) string {
	if text == "" || text == "UnknownError" {
		return ""
	}
	return " (" + text + ")"
}

// shortest is the innermost text of a chain of errors that each repeat the one
// they wrap, with the address where the network names one.
func shortest(err error) string {
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return oneLine(e)
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return oneLine(e)
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return oneLine(err)
		}
		err = inner
	}
}

// oneLine is err's text without line breaks.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
