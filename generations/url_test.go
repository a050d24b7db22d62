package generations

import (
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for _, c := range []struct {
		s    string
		want URL
	}{
		{"s3://bucket", URL{Scheme: "s3", Bucket: "bucket"}},
		{"s3://bucket/databases", URL{Scheme: "s3", Bucket: "bucket", Prefix: "databases"}},
		{"s3://bucket/a%3Fb%23c%25/ü x", URL{Scheme: "s3", Bucket: "bucket", Prefix: "a?b#c%/ü x"}},
		{"s3://b.u-c_K3t/databases/c1?endpoint=http://127.0.0.1:7070", URL{Scheme: "s3", Bucket: "b.u-c_K3t", Prefix: "databases/c1", Endpoint: "http://127.0.0.1:7070"}},
		{"s3://b/p?endpoint=https://h/s3&region=eu-west-1&path-style=true", URL{Scheme: "s3", Bucket: "b", Prefix: "p", Endpoint: "https://h/s3", Region: "eu-west-1", PathStyle: PathStyleOn}},
		{"s3://b?path-style=false", URL{Scheme: "s3", Bucket: "b", PathStyle: PathStyleOff}},
		{"file:///", URL{Scheme: "file", Dir: "/"}},
		{"file:///srv/back%20up", URL{Scheme: "file", Dir: "/srv/back up"}},
		{"file:///a%3Fb", URL{Scheme: "file", Dir: "/a?b"}},
	} {
		got, err := ParseURL(c.s)
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v", c.s, got, err)
		}
		if again, err := ParseURL(got.String()); again != got || err != nil {
			t.Errorf("%s: printed as %s, read as %+v, %v", c.s, got, again, err)
		}
	}
	// What people type in other ways than we print it.
	for s, want := range map[string]string{
		"s3://bucket/":                  "s3://bucket",
		"s3://bucket/p/?":               "s3://bucket/p",
		"s3://b/p?endpoint=http://h:1/": "s3://b/p?endpoint=http://h:1",
		"s3://b/p?path-style=true&region=r&endpoint=http%3A%2F%2Fh": "s3://b/p?endpoint=http://h&region=r&path-style=true",
		"file:///srv/./x/../y/": "file:///srv/y",
	} {
		if got, err := ParseURL(s); err != nil || got.String() != want {
			t.Errorf("%s: got %s, %v, want %s", s, got, err, want)
		}
	}
}

func TestParseURLErrors(t *testing.T) {
	for s, want := range map[string]string{
		"":                                       "s3://bucket/prefix or file:///directory",
		"backup":                                 "s3://bucket/prefix or file:///directory",
		"/srv/backup":                            "s3://bucket/prefix or file:///directory",
		"file:/srv/backup":                       "s3://bucket/prefix or file:///directory",
		"https://bucket.s3.amazonaws.com":        "s3://bucket/prefix or file:///directory",
		"S3://bucket":                            "s3://bucket/prefix or file:///directory",
		"file://srv/backup":                      "three slashes",
		"file://":                                "three slashes",
		"file:///a?b":                            "%3F",
		"file:///a?":                             "%3F",
		"file:///a#b":                            "%23",
		"file:///a%00b":                          "zero byte",
		"s3://":                                  "names no bucket",
		"s3:///prefix":                           "names no bucket",
		"s3://127.0.0.1:7070/bucket":             "?endpoint=",
		"s3://buc ket/p":                         "invalid character",
		"s3://buc!ket/p":                         "not the name of a bucket",
		"s3://../p":                              "not the name of a bucket",
		"s3://b/a//b":                            "empty element",
		"s3://b/../c":                            `".."`,
		"s3://b/%ff":                             "not UTF-8",
		"s3://b/p%zz":                            "invalid URL escape",
		"s3://b/p#c":                             "%23",
		"s3://b/p?foo=bar":                       `unknown parameter "foo"`,
		"s3://b/p?region=a&region=b":             "given 2 times",
		"s3://b/p?region=":                       "not the name of a region",
		"s3://b/p?path-style=yes":                "neither true nor false",
		"s3://b/p?endpoint=127.0.0.1:7070":       "http://host:port",
		"s3://b/p?endpoint=localhost":            "http://host:port",
		"s3://b/p?endpoint=http://":              "http://host:port",
		"s3://b/p?endpoint=http://u:topsecret@h": "http://host:port",
		"s3://key:topsecret@b/p":                 "AWS_ACCESS_KEY_ID",
		"s3://key:topsecret@b:x/p":               "invalid port",
		"https://key:topsecret@b/p":              "s3://bucket/prefix or file:///directory",
		"s3://b/p?endpoint=topsecret%40":         "http://host:port",
		"file://key:topsecret@/p":                "AWS_ACCESS_KEY_ID",
	} {
		got, err := ParseURL(s)
		if err == nil {
			t.Errorf("%s: read as %+v", s, got)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: error %q, want one with %q", s, err, want)
		}
	}
}
