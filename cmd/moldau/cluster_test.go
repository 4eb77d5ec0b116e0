package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// cluster gives a function that runs commands against a broker of the test, and fails the test unless they succeed.
func cluster(t *testing.T) (ok func(stdin string, args ...string) string, fails func(stdin string, args ...string) string, b *broker.Broker) {
	b = brokertest.New(t, brokertest.TCP()).Broker
	env := environment{"MOLDAU_BROKERS": b.Addrs()[0]}
	ok = func(stdin string, args ...string) string {
		t.Helper()
		r := moldau(t, stdin, env, args...)
		require.Zero(t, r.code, "moldau %s: %s", strings.Join(args, " "), r.stderr)
		return r.stdout
	}
	fails = func(stdin string, args ...string) string {
		t.Helper()
		r := moldau(t, stdin, env, args...)
		require.Equal(t, 1, r.code, "moldau %s: %s%s", strings.Join(args, " "), r.stdout, r.stderr)
		require.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
		return r.stderr
	}
	return ok, fails, b
}

func client(t *testing.T, b *broker.Broker, opts ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.Addrs()...)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestTopics(t *testing.T) {
	ok, fails, _ := cluster(t)
	require.Empty(t, ok("", "topics", "list"))
	require.Equal(t, "created b with 3 partitions\ncreated a with 3 partitions\n",
		ok("", "topics", "create", "b", "a", "-p", "3", "--config", "retention.ms=86400000"))
	require.Equal(t, "a\nb\n", ok("", "topics", "list"))
	require.Regexp(t, `(?m)^TOPIC +PARTITIONS +REPLICAS +ID\na +3 +1 +[A-Za-z0-9_-]{22}$`, ok("", "topics", "list", "--long"))

	require.Contains(t, fails("", "topics", "create", "a"), "topic a exists already; --if-not-exists accepts that")
	require.Empty(t, ok("", "topics", "create", "a", "--if-not-exists"))
	require.Contains(t, fails("", "topics", "create", "no/slash"), `create topic "no/slash": a name has at most 249 of the characters`)
	require.Contains(t, fails("", "consume", "-t", "no/slash"), `topic "no/slash": a name has at most 249 of the characters`)

	ok("1\n2\n3\n", "produce", "-t", "a", "-p", "2")
	described := ok("", "topics", "describe", "a")
	require.Regexp(t, `^topic a  id \S+  partitions 3\n`, described)
	require.Contains(t, described, "  retention.ms = 86400000\n")
	require.Regexp(t, `(?m)^\s+2\s+1\s+0\s+1\s+1\s+0\s+3$`, described)
	require.Contains(t, fails("", "topics", "describe", "zzz"), "topic zzz doesn't exist on 127.0.0.1:")

	require.Equal(t, "deleted a\n", ok("", "topics", "delete", "a"))
	require.Equal(t, "b\n", ok("", "topics", "list"))
	require.Contains(t, fails("", "topics", "delete", "a"), "topic a doesn't exist on 127.0.0.1:")
	require.Empty(t, ok("", "topics", "delete", "a", "--if-exists"))
}

func TestWhatIsProducedIsConsumed(t *testing.T) {
	ok, _, _ := cluster(t)
	ok("", "topics", "create", "t", "-p", "2")
	all := func(args ...string) string {
		return ok("", append([]string{"consume", "-t", "t", "--from-beginning", "-e"}, args...)...)
	}
	require.Empty(t, all())
	ok("a:1\nb:2\n:3\nd:\nno delimiter\n", "produce", "-t", "t", "-p", "0", "-K", ":", "-Z")
	require.Equal(t, "1\n2\n3\n\nno delimiter\n", all())
	require.Equal(t, "0:0 a=1\n0:1 b=2\n0:2 NULL=3\n0:3 d=NULL\n0:4 NULL=no delimiter\n", all("-Z", "-f", `%p:%o %k=%v\n`))
	ok("x;y;;z", "produce", "-t", "t", "-p", "1", "-D", ";", "-k", "key", "-H", "h=1", "-H", "n")
	require.Equal(t, "1 0 key x h=1,n=NULL|1 1 key y h=1,n=NULL|1 2 key  h=1,n=NULL|1 3 key z h=1,n=NULL|",
		all("-p", "1", "-f", "%p %o %k %v %h|"))
	require.Equal(t, "key/x,key/y,key/,key/z,", all("-p", "1", "-K", "/", "-D", ","))
	require.Equal(t, "h=1,n=NULL\tx\n", all("-p", "1", "-H", "-c", "1"))

}

func TestWhereToBegin(t *testing.T) {
	ok, fails, b := cluster(t)
	ok("", "topics", "create", "t")
	c := client(t, b)
	for i := range 10 {
		r := &kgo.Record{Topic: "t", Value: fmt.Appendf(nil, "%d", i), Timestamp: time.UnixMilli(int64(1000 * i))}
		require.NoError(t, c.ProduceSync(t.Context(), r).FirstErr())
	}
	from := func(offset string, args ...string) string {
		return strings.ReplaceAll(ok("", append([]string{"consume", "-t", "t", "-e", "-o", offset}, args...)...), "\n", " ")
	}
	require.Equal(t, "0 1 2 3 4 5 6 7 8 9 ", from("beginning"))
	require.Empty(t, from("end"))
	require.Equal(t, "7 8 9 ", from("7"))
	require.Equal(t, "8 9 ", from("-2"))
	require.Equal(t, "0 1 2 3 4 5 6 7 8 9 ", from("-99"))
	require.Empty(t, from("10"))
	require.Equal(t, "5 6 7 8 9 ", from("s@4001"))
	require.Equal(t, "5 6 ", from("s@4001,e@7000"))
	require.Equal(t, "0 1 2 ", from("e@2001"))
	require.Equal(t, "3 4 ", from("3", "-c", "2"))
	require.Contains(t, fails("", "consume", "-t", "t", "-o", "11"), "topic t, partition 0: offset 11 is out of range: the partition holds 0 up to 10")
	require.Contains(t, fails("", "consume", "-t", "t", "-p", "1"), "topic t has no partition 1: it has 1, from 0")
	require.Contains(t, fails("", "consume", "-t", "absent"), "topic absent doesn't exist")
	require.Contains(t, fails("x", "produce", "-t", "absent"), "topic absent doesn't exist")
	require.Contains(t, fails("x", "produce", "-t", "t", "-p", "1"), "topic t has no partition 1: it has 1, from 0")
	require.Equal(t, "t\n", ok("", "topics", "list"), "nothing was created by the way")
	ok("x\n", "produce", "-t", "new", "--create")
	require.Equal(t, "x\n", ok("", "consume", "-t", "new", "-e", "--from-beginning"))
}

func TestFilesAreRecordsOrLines(t *testing.T) {
	ok, _, _ := cluster(t)
	ok("", "topics", "create", "t")
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	require.NoError(t, os.WriteFile(one, []byte("1\n2\n"), 0o600))
	require.NoError(t, os.WriteFile(two, []byte("\x00\xff"), 0o600))
	ok("", "produce", "-t", "t", one, two)
	require.Equal(t, `"1\n2\n"`+"\n"+`"\x00\xff"`+"\n", ok("", "consume", "-t", "t", "-e", "--from-beginning", "--value-as", "quoted"))
	ok("", "produce", "-t", "t", "--lines", "-c", "3", one, one)
	require.Equal(t, "1\n2\n1\n", ok("", "consume", "-t", "t", "-e", "-o", "2"))
}

func TestCompressionAndAcks(t *testing.T) {
	ok, _, _ := cluster(t)
	ok("", "topics", "create", "t")
	var in strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&in, "record %d of a batch that compresses well\n", i)
	}
	for _, flags := range [][]string{{"-z", "gzip"}, {"-z", "snappy"}, {"-z", "lz4"}, {"-z", "zstd"}, {"--acks", "1"}} {
		ok(in.String(), append([]string{"produce", "-t", "t"}, flags...)...)
		require.Equal(t, in.String(), ok("", "consume", "-t", "t", "-e", "-o", "-2000"), flags)
	}
}

// settled waits until no transaction is open in the topic.
func settled(t *testing.T, c *kgo.Client, topic string) {
	admin := kadm.NewClient(c)
	require.Eventually(t, func() bool {
		stable, err := admin.ListCommittedOffsets(t.Context(), topic)
		require.NoError(t, errors.Join(err, stable.Error()))
		ends, err := admin.ListEndOffsets(t.Context(), topic)
		require.NoError(t, errors.Join(err, ends.Error()))
		done := true
		ends.Each(func(end kadm.ListedOffset) {
			at, _ := stable.Lookup(topic, end.Partition)
			done = done && at.Offset == end.Offset
		})
		return done
	}, time.Minute, time.Millisecond)
}

// Only committed records are printed by default, and the end is found although transaction markers lie before it.
func TestIsolation(t *testing.T) {
	ok, _, b := cluster(t)
	ok("", "topics", "create", "t")
	c := client(t, b, kgo.TransactionalID("tx"))
	write := func(v string, end kgo.TransactionEndTry) {
		require.NoError(t, c.BeginTransaction())
		require.NoError(t, c.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(v)}).FirstErr())
		require.NoError(t, c.EndTransaction(t.Context(), end))
		settled(t, c, "t") // the transaction is answered before its markers are written
	}
	consume := func(args ...string) string {
		return ok("", append([]string{"consume", "-t", "t", "-e", "--from-beginning"}, args...)...)
	}
	write("committed", kgo.TryCommit)
	require.Equal(t, "committed\n", consume())
	write("aborted", kgo.TryAbort)
	require.Equal(t, "committed\n", consume())
	require.NoError(t, c.BeginTransaction())
	require.NoError(t, c.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("open")}).FirstErr())
	require.Equal(t, "committed\n", consume())
	require.Equal(t, "committed\naborted\nopen\n", consume("--isolation", "read_uncommitted"))
	require.NoError(t, c.EndTransaction(t.Context(), kgo.TryAbort))
}

func TestNumbersAreShownAsNumbers(t *testing.T) {
	ok, fails, b := cluster(t)
	ok("", "topics", "create", "t")
	c := client(t, b, kgo.DefaultProduceTopic("t"))
	require.NoError(t, c.ProduceSync(t.Context(),
		&kgo.Record{Key: []byte("light"), Value: binary.BigEndian.AppendUint64(nil, 42)},
		&kgo.Record{Key: []byte("gone")}).FirstErr())
	require.Equal(t, "light 42\ngone \n", ok("", "consume", "-t", "t", "-e", "--from-beginning", "--value-as", "int64", "-f", `%k %v\n`))
	require.Contains(t, fails("", "consume", "-t", "t", "-e", "--from-beginning", "--key-as", "int32", "-K", " "),
		"topic t, partition 0, offset 0: the key has 5 bytes and int32 needs 4; --key-as hex shows it")
}

// Without -e, consume prints what comes until it is told to stop, and then ends in order.
func TestConsumeFollows(t *testing.T) {
	ok, _, b := cluster(t)
	ok("old\n", "produce", "-t", "t", "--create")
	ctx, stop := context.WithCancel(t.Context())
	out, print := io.Pipe()
	p := process{stdin: strings.NewReader(""), stdout: print, stderr: t.Output(), env: os.LookupEnv}
	done := make(chan int)
	go func() { done <- p.run(ctx, []string{"consume", "-t", "t", "-b", b.Addrs()[0], "--from-beginning"}) }()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	require.Equal(t, "old", lines.Text())
	ok("new\n", "produce", "-t", "t")
	require.True(t, lines.Scan())
	require.Equal(t, "new", lines.Text())
	stop()
	require.Zero(t, <-done)
}

func TestARecordThatIsTooLargeIsRefused(t *testing.T) {
	ok, fails, _ := cluster(t)
	ok("", "topics", "create", "t", "--config", "max.message.bytes=2000")
	said := fails(strings.Repeat("x", 3000), "produce", "-t", "t")
	require.Contains(t, said, "topic t: 1 of 1 records were not written: MESSAGE_TOO_LARGE")
	require.Contains(t, said, "max.message.bytes")
	said = fails(strings.Repeat("x", 3000), "produce", "-t", "t", "--max-message-bytes", "2000")
	require.Contains(t, said, "1 of 1 records were not written")
	require.Empty(t, ok("", "consume", "-t", "t", "-e", "--from-beginning"))
}

// On a full disk a producer is told that nothing was written, readers go on, and with room again so do producers.
func TestAFullDisk(t *testing.T) {
	disk := vfs.NewMem()
	b := brokertest.New(t, brokertest.TCP(), brokertest.With(func(c *broker.Config) { c.FS, c.DataDir = disk, "data" })).Broker
	env := environment{"MOLDAU_BROKERS": b.Addrs()[0], "MOLDAU_TOPIC": "t"}
	ok := func(stdin string, args ...string) string {
		t.Helper()
		r := moldau(t, stdin, env, args...)
		require.Zero(t, r.code, r.stderr)
		return r.stdout
	}
	ok("", "topics", "create", "t")
	ok("1\n", "produce")
	disk.SetCapacity(disk.Used())
	r := moldau(t, "2\n", env, "produce", "--timeout", "1s")
	require.Equal(t, 1, r.code)
	require.Equal(t, "moldau produce: topic t: 1 of 1 records were not written: the cluster did not take them for 1s: "+
		"if it is there, its log says why (a full disk?)\n", r.stderr)
	require.Equal(t, "1\n", ok("", "consume", "-e", "--from-beginning"))
	disk.SetCapacity(0)
	ok("3\n", "produce")
	require.Equal(t, "1\n3\n", ok("", "consume", "-e", "--from-beginning"))
}

// A segment that was damaged while nobody looked: what can be read is, and the rest is named instead of waited for in silence.
func TestADamagedSegmentIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	line, stop := serve(t, "--listen", "127.0.0.1:0", "--data", dir)
	env := func() environment { return environment{"MOLDAU_BROKERS": strings.Fields(line)[3], "MOLDAU_TOPIC": "t"} }
	for i, in := range []string{"1\n", "2\n", "3\n"} {
		r := moldau(t, in, env(), "produce", "--create")
		require.Zero(t, r.code, "%d: %s", i, r.stderr)
	}
	require.Zero(t, stop())
	segment := filepath.Join(dir, "t-0", "00000000000000000000.log")
	bytes, err := os.ReadFile(segment)
	require.NoError(t, err)
	bytes[len(bytes)/2] ^= 1
	require.NoError(t, os.WriteFile(segment, bytes, 0o600))

	line, stop = serve(t, "--listen", "127.0.0.1:0", "--data", dir)
	r := moldau(t, "", env(), "consume", "-e", "--from-beginning", "--timeout", "1s")
	require.Equal(t, 1, r.code)
	require.Equal(t, "1\n", r.stdout)
	said := strings.Split(strings.TrimSpace(r.stderr), "\n")
	require.Len(t, said, 2, r.stderr)
	require.Regexp(t, `^topic t, partition 0: KAFKA_STORAGE_ERROR: .*; trying again$`, said[0])
	require.Regexp(t, `^moldau consume: topic t: nothing came for 1s: partition 0 is at offset 1 of 3; the last error was: .*KAFKA_STORAGE_ERROR`, said[1])
	require.Zero(t, stop())
}

// serve starts `moldau server` in this process and returns the line that it printed, and a function that stops it.
func serve(t *testing.T, args ...string) (line string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, print := io.Pipe()
	p := process{stdin: strings.NewReader(""), stdout: print, stderr: t.Output(), env: func(string) (string, bool) { return "", false }}
	done := make(chan int, 1)
	go func() {
		done <- p.run(ctx, append([]string{"server"}, args...))
		print.Close()
	}()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan(), "the server ended before it served")
	stop = func() int {
		cancel()
		require.False(t, lines.Scan(), "exactly one line")
		return <-done
	}
	return lines.Text(), stop
}

func TestServerKeepsWhatWasWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for i := range 2 {
		line, stop := serve(t, "--listen", "127.0.0.1:0", "--data", dir)
		require.Regexp(t, `^moldau serves at 127\.0\.0\.1:\d+ \(data in `+dir+`, durability sync\)$`, line)
		addr := strings.Fields(line)[3]
		r := moldau(t, fmt.Sprintf("%d\n", i), nil, "produce", "-b", addr, "-t", "t", "--create")
		require.Zero(t, r.code, r.stderr)
		r = moldau(t, "", nil, "consume", "-b", addr, "-t", "t", "-e", "--from-beginning")
		require.Equal(t, []string{"0\n", "0\n1\n"}[i], r.stdout, r.stderr)
		require.Zero(t, stop())
	}
}

func TestServerNamesWhatIsInUseOrWrong(t *testing.T) {
	dir := t.TempDir()
	line, stop := serve(t, "--listen", "127.0.0.1:0", "--data", dir, "--durability", "page-cache")
	require.Contains(t, line, "durability page-cache")
	r := moldau(t, "", nil, "server", "--listen", "127.0.0.1:0", "--data", dir)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, dir)
	require.Contains(t, r.stderr, "in use")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	r = moldau(t, "", nil, "server", "--listen", l.Addr().String(), "--data", t.TempDir())
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, l.Addr().String())
	require.Contains(t, r.stderr, "in use")
	require.Zero(t, stop())

	for says, args := range map[string][]string{
		`"9092" is not HOST:PORT`:                {"--listen", "9092"},
		"--durability \"never\" is not sync":     {"--durability", "never"},
		"--log-level \"loud\" is not debug":      {"--log-level", "loud"},
		"--log-format \"xml\" is not text":       {"--log-format", "xml"},
		`--advertise: "here" is not HOST:PORT`:   {"--advertise", "here"},
		"--data is empty: name the directory of": {"--data", ""},
	} {
		r := moldau(t, "", nil, append([]string{"server"}, args...)...)
		require.Equal(t, 2, r.code)
		require.Contains(t, r.stderr, says)
	}
}
