package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/moldau-stream/moldau/serde"
)

// Defaults of the options.
const (
	DefaultTimeout = 5 * time.Second
	DefaultRetries = 3
	DefaultBackoff = 200 * time.Millisecond
	DefaultCached  = 1000
)

const (
	// maxAnswer limits what a registry may answer.
	maxAnswer = 16 << 20
	// maxReferences limits how many schemas one schema uses, and they in turn.
	maxReferences = 1000
)

// A Client asks one registry. It is made once and shared by all serdes; its methods, and those of its serdes, may be
// called by many goroutines at once. It keeps the schemas that it got, as they never change.
type Client struct {
	err    error // of the declaration
	url    string
	o      options
	sr     *sr.Client
	http   *http.Client
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	schemas *cache[ref, serde.Schema] // by id or GUID; ref has no message
}

type options struct {
	http         *http.Client
	tls          *tls.Config
	user, pass   string
	token        string
	timeout      time.Duration
	retries      int
	backoff      time.Duration
	cached       int
	autoRegister bool
	normalize    bool
	ctx          context.Context
}

// A ClientOption changes what New makes.
type ClientOption func(*options)

// BasicAuth sets user and password. They can be in the URL instead.
func BasicAuth(user, password string) ClientOption {
	return func(o *options) { o.user, o.pass = user, password }
}

// BearerToken sets a token that each request carries.
func BearerToken(token string) ClientOption { return func(o *options) { o.token = token } }

// TLS sets certificates of the registry and of the client.
func TLS(c *tls.Config) ClientOption { return func(o *options) { o.tls = c } }

// HTTPClient has requests sent by c rather than by a client of our own. Its timeout applies too.
func HTTPClient(c *http.Client) ClientOption { return func(o *options) { o.http = c } }

// Timeout limits one request. Default: DefaultTimeout.
func Timeout(d time.Duration) ClientOption { return func(o *options) { o.timeout = d } }

// Retries sets how often a request is sent again when the registry is unavailable, and how long to wait before the
// first time; the wait doubles each time. A record waits as long. Default: DefaultRetries, DefaultBackoff.
func Retries(n int, backoff time.Duration) ClientOption {
	return func(o *options) { o.retries, o.backoff = n, backoff }
}

// Context has requests end when ctx does, as with Close.
func Context(ctx context.Context) ClientOption { return func(o *options) { o.ctx = ctx } }

// Cached sets how many schemas the client, and each serde, keeps. Default: DefaultCached.
func Cached(n int) ClientOption { return func(o *options) { o.cached = max(n, 1) } }

// AutoRegister tells whether a serde adds its schema to its subject, at the first record that it writes, if it is not
// there. Default: true, as in Confluent's clients. With false the schema must be there.
func AutoRegister(on bool) ClientOption { return func(o *options) { o.autoRegister = on } }

// NormalizeSchemas has the registry compare schemas by what they mean, as normalize.schemas of Confluent's serializers does: one that
// differs from a registered one in the order of its properties or in spaces only is the same. Default: false.
func NormalizeSchemas(on bool) ClientOption { return func(o *options) { o.normalize = on } }

// New makes a client of the registry at a URL, or at several that are separated by commas: the next is asked where the one
// before cannot be reached. No request is sent yet. A URL that is none is an error of each serde of the client, which
// Build of a topology reports.
func New(urls string, opts ...ClientOption) *Client {
	o := options{timeout: DefaultTimeout, retries: DefaultRetries, backoff: DefaultBackoff, cached: DefaultCached, autoRegister: true,
		ctx: context.Background()}
	for _, f := range opts {
		f(&o)
	}
	c := &Client{url: urls, o: o, schemas: newCache[ref, serde.Schema](o.cached)}
	c.ctx, c.cancel = context.WithCancel(o.ctx)
	if err := c.connect(urls); err != nil {
		c.err = fmt.Errorf("registry: %w", err)
	}
	return c
}

func (c *Client) connect(urls string) error {
	var all []string
	for text := range strings.SplitSeq(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil {
			return errors.New("the URL does not parse") // without it: it may hold a password
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%q is no URL of a registry: want http://host:port or https://host:port", u.Redacted())
		}
		if u.User != nil {
			c.o.user = u.User.Username()
			c.o.pass, _ = u.User.Password()
			u.User = nil // so that no error shows it
		}
		all = append(all, u.String())
	}
	c.url = strings.Join(all, ",")
	c.http = c.o.http
	if c.http == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		if c.o.tls != nil {
			t.TLSClientConfig = c.o.tls
		}
		c.http = &http.Client{Transport: t}
	}
	limited := *c.http
	if limited.Transport == nil {
		limited.Transport = http.DefaultTransport
	}
	limited.Transport = limitedTransport{limited.Transport}
	o := []sr.ClientOpt{sr.URLs(all...), sr.HTTPClient(&limited), sr.UserAgent("moldau")}
	if c.o.user != "" {
		o = append(o, sr.BasicAuth(c.o.user, c.o.pass))
	}
	if c.o.token != "" {
		o = append(o, sr.BearerToken(c.o.token))
	}
	var err error
	c.sr, err = sr.NewClient(o...)
	return err
}

// limitedTransport bounds answers, so that none decides how much memory it takes.
type limitedTransport struct{ next http.RoundTripper }

func (t limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// Close ends requests that are under way. Serdes of the client fail with ErrClosed where they need the registry; what they
// know already stays usable.
func (c *Client) Close() {
	c.cancel()
	if c.o.http == nil && c.http != nil {
		c.http.CloseIdleConnections()
	}
}

// do sends a request until it is answered, and makes its error one of ours. The caller adds the subject.
func (c *Client) do(advice string, request func(ctx context.Context) error) error {
	if c.err != nil {
		return c.err
	}
	wait := c.o.backoff
	for left := c.o.retries; ; left-- {
		ctx, cancel := context.WithTimeout(c.ctx, c.o.timeout)
		err := request(ctx)
		cancel()
		if err == nil {
			return nil
		}
		e := c.errorOf(err, advice)
		if e.Kind != ErrUnavailable || left <= 0 {
			return e
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-c.ctx.Done():
			t.Stop()
			return &Error{Kind: ErrClosed, URL: c.url}
		}
		wait = min(2*wait, 10*time.Second)
	}
}

func (c *Client) errorOf(err error, unknown string) *Error {
	e := &Error{Kind: ErrUnavailable, URL: c.url, Err: err}
	var answer *sr.ResponseError
	var syntax *json.SyntaxError
	var wrongType *json.UnmarshalTypeError
	switch {
	case c.ctx.Err() != nil:
		e.Kind, e.Err = ErrClosed, nil
	case errors.As(err, &answer):
		e.Err = fmt.Errorf("%s %s: %d: %s", answer.Method, answer.URL, answer.StatusCode, sample(answer.Error()))
		switch code := answer.StatusCode; {
		case code == http.StatusNotFound && answer.ErrorCode/100 == 404:
			e.Kind, e.Advice = ErrUnknownSchema, unknown
		case code == http.StatusNotFound:
			e.Kind, e.Advice = ErrRefused, "this does not look like a schema registry: is the URL right?"
		case code == http.StatusConflict:
			e.Kind, e.Advice = ErrIncompatible, "change the schema, or the compatibility level of the subject"
		case code == http.StatusUnauthorized || code == http.StatusForbidden:
			e.Kind, e.Advice = ErrRefused, "check BasicAuth or BearerToken, and the permissions on the subject"
		case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500:
			e.Advice = "try again later"
		default:
			e.Kind = ErrRefused
		}
	case errors.As(err, &syntax) || errors.As(err, &wrongType) || errors.Is(err, io.ErrUnexpectedEOF):
		e.Kind, e.Advice = ErrRefused, "this does not look like a schema registry: is the URL right?"
	default:
		e.Advice = "is the registry running, and is it reachable from here?"
	}
	return e
}

// within says what an error is about.
func within(what string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %w", what, err)
	}
	n := *e
	n.Err = fmt.Errorf("%s: %w", what, e.Err)
	return &n
}

// sample shows the beginning of an answer.
func sample(s string) string {
	const limit = 300
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}

const adviceID = "is this the registry that the producer of the record uses, and was the schema deleted?"

// schema returns the schema that a record was written with.
func (c *Client) schema(r ref) (serde.Schema, error) {
	return c.schemas.get(ref{id: r.id, guid: r.guid}, func() (serde.Schema, error) {
		var s sr.Schema
		err := c.do(adviceID, func(ctx context.Context) (err error) {
			// Of Protobuf we want descriptors, which need no parser; registries ignore formats that they don't know.
			ctx = sr.WithParams(ctx, sr.Format("serialized"))
			if r.guid != (ref{}).guid {
				var ss sr.SubjectSchema
				ss, err = c.sr.SchemaByGUID(ctx, r.guid.String())
				s = ss.Schema
				return err
			}
			s, err = c.sr.SchemaByID(ctx, int(r.id))
			return err
		})
		if err != nil {
			return serde.Schema{}, err
		}
		budget := maxReferences
		return c.withReferences(s, &budget, nil)
	})
}

// withReferences gets the schemas that a schema uses.
func (c *Client) withReferences(s sr.Schema, budget *int, path []sr.SchemaReference) (serde.Schema, error) {
	out := serde.Schema{Type: s.Type.String(), Text: s.Schema}
	for _, r := range s.References {
		for _, p := range path {
			if p.Subject == r.Subject && p.Version == r.Version {
				return out, &Error{Kind: ErrRefused, URL: c.url, Err: fmt.Errorf("version %d of subject %s uses itself", r.Version, r.Subject)}
			}
		}
		if *budget--; *budget < 0 {
			return out, &Error{Kind: ErrRefused, URL: c.url, Err: fmt.Errorf("the schema uses more than %d others", maxReferences)}
		}
		var used sr.SubjectSchema
		err := c.do("", func(ctx context.Context) (err error) {
			used, err = c.sr.SchemaByVersion(ctx, r.Subject, r.Version)
			return err
		})
		if err != nil {
			return out, within(fmt.Sprintf("it uses version %d of subject %s", r.Version, r.Subject), err)
		}
		schema, err := c.withReferences(used.Schema, budget, append(path[:len(path):len(path)], r))
		if err != nil {
			return out, err
		}
		out.References = append(out.References, serde.Reference{Name: r.Name, Subject: r.Subject, Schema: schema})
	}
	return out, nil
}

const adviceLookup = "register the schema first, or allow AutoRegister"

// lookup finds a schema in its subject, and adds it if the client may.
func (c *Client) lookup(subject string, s serde.Schema, guid bool) (sr.SubjectSchema, error) {
	return c.lookupAll(subject, s, guid, map[string]sr.SubjectSchema{})
}

func (c *Client) lookupAll(subject string, s serde.Schema, details bool, done map[string]sr.SubjectSchema) (found sr.SubjectSchema, err error) {
	want := sr.Schema{Schema: s.Text}
	if err := want.Type.UnmarshalText([]byte(s.Type)); err != nil {
		return found, fmt.Errorf("registry: %w", err)
	}
	for _, r := range s.References {
		if r.Subject == "" {
			r.Subject = r.Name
		}
		used, ok := done[r.Subject]
		if !ok {
			if used, err = c.lookupAll(r.Subject, r.Schema, true, done); err != nil {
				return found, within("it uses the schema of subject "+r.Subject, err)
			}
			done[r.Subject] = used
		}
		want.References = append(want.References, sr.SchemaReference{Name: r.Name, Subject: r.Subject, Version: used.Version})
	}
	if c.o.autoRegister {
		if err := c.do("", func(ctx context.Context) (err error) {
			found.ID, err = c.sr.RegisterSchema(c.normalized(ctx), subject, want, -1, -1)
			return err
		}); err != nil || !details {
			return found, err
		}
	}
	err = c.do(adviceLookup, func(ctx context.Context) (err error) {
		found, err = c.sr.LookupSchema(c.normalized(ctx), subject, want)
		return err
	})
	return found, err
}

// normalized is the context of a request that has a schema.
func (c *Client) normalized(ctx context.Context) context.Context {
	if c.o.normalize {
		return sr.WithParams(ctx, sr.Normalize)
	}
	return ctx
}
