package generations

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// URL is a replica URL taken apart: it names a place in a store, either the
// root of all clients or one client. Which of the two it is cannot be told from
// the URL alone. URLs are comparable, and String gives the one canonical form.
type URL struct {
	Scheme string // "s3" or "file"

	// For "s3".
	Bucket    string
	Prefix    string    // slash-separated, without slashes at the ends; "" is the whole bucket
	Endpoint  string    // http:// or https:// and a host; "" is AWS itself
	Region    string    // "" is what the environment says
	PathStyle PathStyle // parameter path-style

	// For "file": an absolute, clean path.
	Dir string
}

// PathStyle says where requests to S3 name the bucket.
type PathStyle byte

const (
	// PathStyleAuto is the bucket in the path when the endpoint is not AWS's
	// own, and in the host name otherwise.
	PathStyleAuto PathStyle = iota
	// PathStyleOn is always the path: https://endpoint/bucket/key.
	PathStyleOn
	// PathStyleOff is always the host name: https://bucket.endpoint/key.
	PathStyleOff
)

// ParseURL understands
//
//	s3://bucket/prefix[?endpoint=http://host:port&region=name&path-style=true]
//	file:///absolute/directory
//
// Characters that mean something in a URL (? # %) are percent-encoded in the
// prefix and the directory. Errors are one line and never repeat a secret.
func ParseURL(s string) (URL, error) {
	scheme, _, ok := strings.Cut(s, "://")
	if !ok || (scheme != "s3" && scheme != "file") {
		return URL{}, fmt.Errorf("%q is not a replica URL: write s3://bucket/prefix or file:///directory", withoutSecrets(s))
	}
	u, err := url.Parse(s)
	if err != nil {
		// A url.Error repeats the URL, which may hold a password.
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return URL{}, fmt.Errorf("%s URL: %w", scheme, err)
	}
	if u.User != nil {
		return URL{}, fmt.Errorf("%s URL: credentials do not belong in it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE", scheme)
	}
	if strings.Contains(s, "#") {
		return URL{}, fmt.Errorf("URL %q: write # as %%23", withoutSecrets(s))
	}
	var r URL
	if scheme == "file" {
		r, err = fileURL(u)
	} else {
		r, err = s3URL(u)
	}
	if err != nil {
		return URL{}, fmt.Errorf("URL %q: %w", withoutSecrets(s), err)
	}
	return r, nil
}

// withoutSecrets leaves out of s where people put passwords: in front of a host
// and in parameters.
func withoutSecrets(s string) string {
	s, _, _ = strings.Cut(s, "?")
	scheme, rest, _ := strings.Cut(s, "//")
	host, path, ok := strings.Cut(rest, "/")
	if i := strings.LastIndex(host, "@"); i >= 0 {
		s = scheme + "//" + host[i+1:]
		if ok {
			s += "/" + path
		}
	}
	return s
}

func fileURL(u *url.URL) (URL, error) {
	if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
		return URL{}, errors.New("the directory must be absolute: write file:///directory with three slashes")
	}
	if u.RawQuery != "" || u.ForceQuery {
		return URL{}, errors.New("a directory takes no parameters: write ? as %3F")
	}
	if strings.ContainsRune(u.Path, 0) {
		return URL{}, errors.New("a path cannot hold a zero byte")
	}
	return URL{Scheme: "file", Dir: path.Clean(u.Path)}, nil
}

func s3URL(u *url.URL) (URL, error) {
	r := URL{Scheme: "s3", Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	if err := checkBucket(r.Bucket); err != nil {
		return URL{}, err
	}
	if r.Prefix != "" {
		if err := CheckKey(r.Prefix); err != nil {
			return URL{}, err
		}
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return URL{}, err
	}
	for name, values := range q {
		if len(values) != 1 {
			return URL{}, fmt.Errorf("parameter %s is given %d times", name, len(values))
		}
		if err := r.setParameter(name, values[0]); err != nil {
			return URL{}, err
		}
	}
	return r, nil
}

func (u *URL) setParameter(name, value string) error {
	switch name {
	case "endpoint":
		e, err := url.Parse(value)
		if err != nil || (e.Scheme != "http" && e.Scheme != "https") || e.Hostname() == "" ||
			e.User != nil || e.RawQuery != "" || e.ForceQuery || e.Fragment != "" {
			return errors.New("parameter endpoint: write http://host:port or https://host:port")
		}
		u.Endpoint = strings.TrimRight(value, "/")
	case "region":
		if value == "" || strings.Trim(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return fmt.Errorf("parameter region: %q is not the name of a region", value)
		}
		u.Region = value
	case "path-style":
		switch value {
		case "true":
			u.PathStyle = PathStyleOn
		case "false":
			u.PathStyle = PathStyleOff
		default:
			return fmt.Errorf("parameter path-style: %q is neither true nor false", value)
		}
	default:
		return fmt.Errorf("unknown parameter %q: there are endpoint, region and path-style", name)
	}
	return nil
}

// checkBucket is lenient about length and capitals, which stores other than AWS
// allow, and strict about what would make another URL of it.
func checkBucket(name string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	switch {
	case name == "":
		return errors.New("it names no bucket: write s3://bucket/prefix")
	case strings.Contains(name, ":"):
		return errors.New("a bucket has no port: name the server with ?endpoint=http://host:port")
	case strings.Trim(name, allowed) != "" || name == "." || name == "..":
		return fmt.Errorf("%q is not the name of a bucket", name)
	}
	return nil
}

// String gives the URL in the form that ParseURL reads back to the same value.
func (u URL) String() string {
	if u.Scheme == "file" {
		return (&url.URL{Scheme: "file", Path: u.Dir}).String()
	}
	r := url.URL{Scheme: u.Scheme, Host: u.Bucket}
	if u.Prefix != "" {
		r.Path = "/" + u.Prefix
	}
	var q []string
	if u.Endpoint != "" {
		// Colons and slashes mean nothing in a query, and people read this.
		e := url.QueryEscape(u.Endpoint)
		q = append(q, "endpoint="+strings.NewReplacer("%3A", ":", "%2F", "/").Replace(e))
	}
	if u.Region != "" {
		q = append(q, "region="+url.QueryEscape(u.Region))
	}
	switch u.PathStyle {
	case PathStyleOn:
		q = append(q, "path-style=true")
	case PathStyleOff:
		q = append(q, "path-style=false")
	}
	r.RawQuery = strings.Join(q, "&")
	return r.String()
}
