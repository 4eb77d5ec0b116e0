package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// result is what a command line left behind.
type result struct {
	code           int
	stdout, stderr string
}

type environment map[string]string

// moldau runs one command line with the given stdin and environment.
func moldau(t *testing.T, stdin string, env environment, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	p := process{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs,
		env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	code := p.run(t.Context(), args)
	return result{code, out.String(), errs.String()}
}

func TestMistakesInTheCommandLineAreNamedAndExitWith2(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		env  environment
		says string
	}{
		{"unknown command", []string{"frobnicate"}, nil, `unknown command "frobnicate"`},
		{"unknown subcommand", []string{"topics", "frobnicate"}, nil, `unknown command "frobnicate"`},
		{"unknown flag", []string{"consume", "--tpoic", "x"}, nil, "unknown flag: --tpoic"},
		{"unknown shorthand", []string{"produce", "-y"}, nil, "unknown shorthand flag: 'y'"},
		{"stray argument", []string{"consume", "-t", "a", "b"}, nil, `unexpected argument "b"`},
		{"no topic to consume", []string{"consume"}, nil, "--topic is missing"},
		{"no topic to produce to", []string{"produce"}, nil, "--topic is missing"},
		{"no topic to delete", []string{"topics", "delete"}, nil, "name at least one topic"},
		{"broker without port", []string{"topics", "list", "-b", "localhost"}, nil, `"localhost" is not HOST:PORT`},
		{"partitions is no number", []string{"topics", "create", "a", "--partitions", "many"}, nil, "--partitions"},
		{"no partitions", []string{"topics", "create", "a", "-p", "0"}, nil, "--partitions 0 must be at least 1"},
		{"config without value", []string{"topics", "create", "a", "--config", "x"}, nil, `--config "x" is not NAME=VALUE`},
		{"format verb", []string{"consume", "-t", "a", "-f", "%y"}, nil, "unknown %y"},
		{"format ends early", []string{"consume", "-t", "a", "-f", "100%"}, nil, "ends with a single %"},
		{"escape", []string{"produce", "-t", "a", "-K", `\q`}, nil, `unknown escape \q`},
		{"offset", []string{"consume", "-t", "a", "-o", "soon"}, nil, `"soon" is not beginning, end`},
		{"isolation", []string{"consume", "-t", "a", "--isolation", "none"}, nil, "read_committed or read_uncommitted"},
		{"decoder", []string{"consume", "-t", "a", "--value-as", "int7"}, nil, `"int7" is not one of raw`},
		{"codec", []string{"produce", "-t", "a", "-z", "zip"}, nil, "none, gzip, snappy, lz4, zstd"},
		{"acks", []string{"produce", "-t", "a", "--acks", "2"}, nil, "all, 1, 0"},
		{"header", []string{"produce", "-t", "a", "-H", "=x"}, nil, "NAME=VALUE"},
		{"two keys", []string{"produce", "-t", "a", "-k", "x", "-K", ":"}, nil, "exclude each other"},
		{"mechanism", []string{"topics", "list", "--sasl-mechanism", "ROT13"}, nil, `"ROT13" is not one of PLAIN`},
		{"user without mechanism", []string{"topics", "list", "--sasl-user", "me"}, nil, "need --sasl-mechanism"},
		{"mechanism without user", []string{"topics", "list", "--sasl-mechanism", "PLAIN"}, nil, "needs --sasl-user and --sasl-password"},
		{"certificate without key", []string{"topics", "list", "--tls-cert", "c.pem"}, nil, "go together"},
		{"bad variable", []string{"topics", "list"}, environment{"MOLDAU_TIMEOUT": "soon"}, "environment variable MOLDAU_TIMEOUT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := moldau(t, "", c.env, c.args...)
			require.Equal(t, 2, r.code, r.stderr)
			require.Empty(t, r.stdout)
			require.Contains(t, r.stderr, c.says)
			require.Contains(t, r.stderr, "--help shows how to use it")
			require.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
		})
	}
}

func TestMissingFilesAreNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	r := moldau(t, "", nil, "produce", "-t", "a", missing)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, missing)

	r = moldau(t, "", nil, "topics", "list", "--tls-ca", missing)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "--tls-ca: open "+missing)

	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	r = moldau(t, "", nil, "topics", "list", "--tls-ca", empty)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, empty+" holds no PEM certificate")
}

func TestABrokerThatCannotBeReachedIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	for _, args := range [][]string{
		{"topics", "list"}, {"topics", "create", "a"}, {"topics", "describe", "a"}, {"topics", "delete", "a"},
		{"produce", "-t", "a"}, {"consume", "-t", "a"},
	} {
		r := moldau(t, "", nil, append(args, "--brokers", addr, "--timeout", "50ms")...)
		require.Equal(t, 1, r.code)
		require.Contains(t, r.stderr, "broker "+addr+" cannot be reached after 50ms: ")
		require.Contains(t, r.stderr, "; check that it runs and that --brokers names its address")
	}
}

func TestVersion(t *testing.T) {
	r := moldau(t, "", nil, "version")
	require.Zero(t, r.code, r.stderr)
	require.Regexp(t, `^moldau \S+.* go1\.\S+ \w+/\w+\n$`, r.stdout)
}

func TestFlagWinsOverVariableWinsOverDefault(t *testing.T) {
	refuse := func(env environment, args ...string) string {
		return moldau(t, "", env, append([]string{"topics", "list", "--timeout", "1ms"}, args...)...).stderr
	}
	require.Contains(t, refuse(nil), "127.0.0.1:9092")
	require.Contains(t, refuse(environment{"MOLDAU_BROKERS": "127.0.0.1:1,127.0.0.1:2"}), "broker 127.0.0.1:1,127.0.0.1:2")
	require.Contains(t, refuse(environment{"MOLDAU_BROKERS": "127.0.0.1:1"}, "-b", "127.0.0.1:3"), "broker 127.0.0.1:3")
	require.Contains(t, refuse(environment{"MOLDAU_BROKERS": ""}), "127.0.0.1:9092")
}

func TestFormat(t *testing.T) {
	full := &kgo.Record{Topic: "t", Partition: 3, Offset: 42, Timestamp: time.UnixMilli(1700000000123), Key: []byte("k"),
		Value: []byte("va%ue"), Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "c", Value: []byte{}}}}
	nulls := &kgo.Record{Topic: "t", Timestamp: time.UnixMilli(0)}
	empty := &kgo.Record{Topic: "t", Timestamp: time.UnixMilli(0), Key: []byte{}, Value: []byte{}}
	for _, c := range []struct {
		format string
		record *kgo.Record
		want   string
	}{
		{`%t %p %o %T %k=%v %s|%K %V %S|%h%%\n`, full, "t 3 42 1700000000123 k=va%ue va%ue|1 5 5|a=1,b=NULL,c=%\n"},
		{`%k %v %K %V %h`, nulls, "NULL NULL -1 -1 "},
		{`%k %v %K %V`, empty, "  0 0"},
		{`%R`, full, "\x00\x00\x00\x05"},
		{`%R`, nulls, "\xff\xff\xff\xff"},
		{`\t\x41\0\\`, full, "\tA\x00\\"},
		{`plain`, full, "plain"},
	} {
		f, err := compileFormat(c.format, decoders[0], decoders[0], "NULL")
		require.NoError(t, err)
		got, err := f.append(nil, c.record)
		require.NoError(t, err)
		require.Equal(t, c.want, string(got), c.format)
	}
}

func TestDecodersShowNumbersAndNameWhatDoesNotFit(t *testing.T) {
	for _, c := range []struct{ as, bytes, want string }{
		{"int64", "\x00\x00\x00\x00\x00\x00\x01\x00", "256"},
		{"int64", "\xff\xff\xff\xff\xff\xff\xff\xff", "-1"},
		{"int32", "\x80\x00\x00\x00", "-2147483648"},
		{"float64", "\x3f\xf8\x00\x00\x00\x00\x00\x00", "1.5"},
		{"hex", "\x00\xffa", "00ff61"},
		{"base64", "\x00\xff", "AP8="},
		{"quoted", "a\n\xff", `"a\n\xff"`},
	} {
		d, err := decoderOf(c.as)
		require.NoError(t, err)
		got, err := d.append(nil, []byte(c.bytes), "value", "")
		require.NoError(t, err)
		require.Equal(t, c.want, string(got), c.as)
	}
	d, err := decoderOf("int64")
	require.NoError(t, err)
	f, err := compileFormat("%v", decoders[0], d, "")
	require.NoError(t, err)
	_, err = f.append(nil, &kgo.Record{Topic: "t", Partition: 1, Offset: 7, Value: []byte("12")})
	require.EqualError(t, err, "topic t, partition 1, offset 7: the value has 2 bytes and int64 needs 8; --value-as hex shows it")
}

func TestMessages(t *testing.T) {
	for _, c := range []struct {
		in, delim string
		want      []string
	}{
		{"a\nb\n", "\n", []string{"a", "b"}},
		{"a\n\nb", "\n", []string{"a", "", "b"}},
		{"", "\n", nil},
		{"a||b|c||", "||", []string{"a", "b|c"}},
		{"a\nb\n", "", []string{"a\nb\n"}},
		{strings.Repeat("x", 200_000) + ";y", ";", []string{strings.Repeat("x", 200_000), "y"}},
	} {
		var got []string
		err := messages(strings.NewReader(c.in), []byte(c.delim), func(m []byte) error {
			require.NotNil(t, m)
			got = append(got, string(m))
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}

func TestOffsets(t *testing.T) {
	none := startOffset{last: -1, absolute: -1, since: -1, until: -1}
	with := func(change func(*startOffset)) startOffset { o := none; change(&o); return o }
	for text, want := range map[string]startOffset{
		"beginning":   with(func(o *startOffset) { o.beginning = true }),
		"end":         none,
		"17":          with(func(o *startOffset) { o.absolute = 17 }),
		"-5":          with(func(o *startOffset) { o.last = 5 }),
		"s@1000":      with(func(o *startOffset) { o.since = 1000 }),
		"e@2000":      with(func(o *startOffset) { o.until = 2000; o.beginning = true }),
		"s@1000,e@20": with(func(o *startOffset) { o.since, o.until = 1000, 20 }),
	} {
		got, err := parseOffset(text)
		require.NoError(t, err)
		require.Equal(t, want, got, text)
	}
	for _, bad := range []string{"", "x", "s@", "e@-1", "1.5"} {
		_, err := parseOffset(bad)
		require.Error(t, err, bad)
	}
}
