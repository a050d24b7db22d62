package generations

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// StoreError is how a store reports a failure: one line that says what was
// being done, to what, what is wrong and, in Text, what to do about it.
type StoreError struct {
	Op   string // "put", "get", "list", "delete", "open"
	Name string // of the object or place: "s3://bucket/key" or a path
	Text string
	// Kind is ErrNotFound, ErrExists, ErrNoBucket, ErrDenied or nil.
	Kind error
	// Err is what was reported to the store, or nil.
	Err error
}

func (e *StoreError) Error() string {
	return fmt.Sprintf("%s %s: %s", e.Op, e.Name, e.Text)
}

// Unwrap lets errors.Is find the kind as well as the cause.
func (e *StoreError) Unwrap() []error {
	var errs []error
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}

// CheckKey tells why key is not one that a Store takes, see Store.
func CheckKey(key string) error {
	if !utf8.ValidString(key) {
		return fmt.Errorf("key %q is not UTF-8", key)
	}
	for e := range strings.SplitSeq(key, "/") {
		switch e {
		case "":
			return fmt.Errorf("key %q has an empty element", key)
		case ".", "..":
			return fmt.Errorf("key %q has an element %q", key, e)
		}
	}
	return nil
}

// CheckPrefix tells why prefix is not one that a Store lists.
func CheckPrefix(prefix string) error {
	dir, ok := strings.CutSuffix(prefix, "/")
	if prefix != "" && !ok {
		return fmt.Errorf("prefix %q does not end in a slash", prefix)
	}
	if prefix == "" {
		return nil
	}
	return CheckKey(dir)
}
