package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/stream"
)

type result struct {
	code           int
	stdout, stderr string
}

// wordcount runs the program in this process.
func wordcount(t *testing.T, ctx context.Context, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(ctx, args, &out, &errs)
	return result{code, out.String(), errs.String()}
}

func TestTheBookIsCountedAndVerified(t *testing.T) {
	for _, guarantee := range []string{"exactly-once", "at-least-once"} {
		t.Run(guarantee, func(t *testing.T) {
			r := wordcount(t, t.Context(), "-guarantee", guarantee)
			require.Zero(t, r.code, r.stderr)
			out := strings.Split(strings.TrimSpace(r.stdout), "\n")
			require.Len(t, out, 11)
			require.Regexp(t, `^\s*\d+  the$`, out[0])
			require.Regexp(t, `^verified: all \d+ words, \d+ in total: each count in topic word-counts equals a plain count of opticks.txt$`, out[10])
		})
	}
}

func TestASecondRunAddsNothingAndVerifies(t *testing.T) {
	file := writeFile(t, "to be or not to be\nthat is the question\n")
	stateDir := filepath.Join(t.TempDir(), "state")
	r := wordcount(t, t.Context(), "-file", file, "-state", stateDir, "-partitions", "3")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, "2 lines loaded, 0 were there")
	r = wordcount(t, t.Context(), "-file", file, "-state", stateDir)
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, "loading 2 lines of "+file+" into 3 partitions")
	require.Contains(t, r.stderr, "0 lines loaded, 2 were there")
	require.Contains(t, r.stdout, "verified: all 8 words, 10 in total")

	r = wordcount(t, t.Context(), "-load=false", "-state", stateDir)
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "verified: all 8 words, 10 in total: each count in topic word-counts equals a plain count of topic lines")

	other := writeFile(t, "something else\n")
	r = wordcount(t, t.Context(), "-file", other, "-state", stateDir)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, `topic lines, partition 0, offset 0 holds "to be or not to be", which no load of this file wrote there`)
}

func TestFollowRunsUntilItIsToldToStop(t *testing.T) {
	for _, args := range [][]string{{"-follow"}, {"-follow", "-load=false"}} {
		ctx, stop := context.WithCancel(t.Context())
		args = append(args, "-file", writeFile(t, "light\n"))
		out := &signalWriter{until: "until SIGTERM", found: stop}
		if len(args) == 3 {
			out.until = "verified"
		}
		require.Zero(t, run(ctx, args, out, out), "%v: %s", args, out.String())
		require.Contains(t, out.String(), out.until)
	}
}

// A load that is killed at any moment is continued: nothing is lost and nothing is there twice.
func TestAKilledLoadIsContinued(t *testing.T) {
	o, err := parse([]string{"-state", t.TempDir()}, nil)
	require.NoError(t, err)
	c, err := o.cluster(t.Context(), &progress{w: t.Output()})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.close()) }()
	partitions, err := c.createTopics(t.Context(), 3)
	require.NoError(t, err)
	book := strings.Split(strings.Repeat("one\ntwo\n\nfour\nfive\n", 1000), "\n")
	quiet := func(int) {}

	// Killed between two transactions.
	added, err := load(t.Context(), c, book[:2003], partitions, quiet)
	require.NoError(t, err)
	require.Equal(t, 2003, added)

	// Killed inside a transaction, with lines written and more on their way.
	killed, err := kgo.NewClient(append(c.options(), kgo.TransactionalID("wordcount-load-"+lineTopic), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	require.NoError(t, err)
	defer killed.Close()
	require.NoError(t, killed.BeginTransaction())
	require.NoError(t, killed.ProduceSync(t.Context(), &kgo.Record{Topic: lineTopic, Partition: 1, Value: []byte(book[2003])}).FirstErr())

	added, err = load(t.Context(), c, book, partitions, quiet)
	require.NoError(t, err)
	require.Equal(t, len(book)-2003, added)
	late := killed.ProduceSync(t.Context(), &kgo.Record{Topic: lineTopic, Partition: 2, Value: []byte("late")}).FirstErr()
	require.Error(t, late, "a request of the killed loader, that comes late, is refused")

	added, err = load(t.Context(), c, book, partitions, quiet)
	require.NoError(t, err)
	require.Zero(t, added)
	present, err := countLoaded(t.Context(), c, book, partitions)
	require.NoError(t, err)
	require.EqualValues(t, len(book), present[0]+present[1]+present[2])
}

func TestMistakesAreNamedInOneLine(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.txt")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-flie", "x"}, 2, "flag provided but not defined: -flie; -help lists the flags"},
		{[]string{"x"}, 2, `unexpected argument "x"`},
		{[]string{"-guarantee", "maybe"}, 2, "it is exactly-once or at-least-once"},
		{[]string{"-brokers", "localhost"}, 2, `"localhost" is not HOST:PORT`},
		{[]string{"-brokers", ""}, 2, `"" is not HOST:PORT`},
		{[]string{"-partitions", "0"}, 2, "-partitions 0 must be at least 1"},
		{[]string{"-file", missing}, 1, missing},
	} {
		r := wordcount(t, t.Context(), c.args...)
		require.Equal(t, c.code, r.code)
		require.Contains(t, r.stderr, c.says)
		require.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
		require.Empty(t, r.stdout)
	}
}

func TestABrokerThatDoesNotAnswerIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	o, err := parse([]string{"-brokers", addr, "-state", t.TempDir()}, nil)
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, o.patience)
	o.patience = 50 * time.Millisecond
	var out bytes.Buffer
	err = o.run(t.Context(), &out, &out)
	require.ErrorContains(t, err, "no broker answers at "+addr+" for 50ms")
	require.ErrorContains(t, err, "connection refused", "the reason, not that the last attempt had no time left")
	require.ErrorContains(t, err, "check that it runs and that -brokers names its address")
}

func TestAnEmptyTextHasNoLines(t *testing.T) {
	r := wordcount(t, t.Context(), "-file", writeFile(t, ""))
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, "0 lines loaded, 0 were there")
	require.Contains(t, r.stdout, "verified: all 0 words")
	r = wordcount(t, t.Context(), "-file", writeFile(t, "\n\na\n\nb"))
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, "5 lines loaded, 0 were there")
	require.Contains(t, r.stdout, "verified: all 2 words")
}

// A cluster that goes away is waited for, visibly, and the application goes on without a restart.
func TestABrokerThatGoesAwayIsWaitedFor(t *testing.T) {
	cfg := broker.Config{Listen: []string{"127.0.0.1:0"}, DataDir: t.TempDir()}
	b, err := broker.Start(t.Context(), cfg)
	require.NoError(t, err)
	addr := b.Addrs()[0]
	cfg.Listen = []string{addr}

	ctx, stop := context.WithCancel(t.Context())
	out, print := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"-brokers", addr, "-state", t.TempDir(), "-follow", "-load=false"}, print, print)
		print.Close()
	}()
	said := bufio.NewScanner(out)
	until := func(text string) {
		t.Helper()
		for said.Scan() {
			if t.Log(said.Text()); strings.Contains(said.Text(), text) {
				return
			}
		}
		t.Fatalf("never said %q", text)
	}
	until("until SIGTERM")
	require.NoError(t, b.Close())
	until("WAITING: broker " + addr + " cannot be reached: ")
	b, err = broker.Start(t.Context(), cfg)
	require.NoError(t, err)
	until("RUNNING again")
	stop()
	for said.Scan() { // lets the program write until it ends
		t.Log(said.Text())
	}
	require.Zero(t, <-done)
	require.NoError(t, b.Close())
}

func TestAStateDirectoryInUseIsNamed(t *testing.T) {
	stateDir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	first := &signalWriter{until: "until SIGTERM", found: func() {}}
	ready := make(chan struct{})
	first.found = func() { close(ready) }
	done := make(chan int)
	go func() { done <- run(ctx, []string{"-follow", "-load=false", "-state", stateDir}, first, first) }()
	<-ready
	r := wordcount(t, t.Context(), "-state", stateDir)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, stateDir)
	stop()
	require.Zero(t, <-done, first.String())
}

func TestReportNamesWhatDiffers(t *testing.T) {
	var out bytes.Buffer
	err := report(&out, map[string]int64{"a": 1, "b": 2, "x": 1}, map[string]int64{"a": 1, "b": 3, "c": 1}, "book.txt")
	require.EqualError(t, err, "3 words have a wrong count")
	require.Contains(t, out.String(), `WRONG: 3 of 3 words differ in topic word-counts from a plain count of book.txt: "b" 2 instead of 3, "c" 0 instead of 1, "x" 1 instead of 0`)
}

func TestGuaranteesHaveTheNamesOfTheFlag(t *testing.T) {
	o, err := parse(nil, nil)
	require.NoError(t, err)
	require.Equal(t, stream.ExactlyOnce, o.guarantee)
	o, err = parse([]string{"-guarantee", "at-least-once"}, nil)
	require.NoError(t, err)
	require.Equal(t, stream.AtLeastOnce, o.guarantee)
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text.txt")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// signalWriter calls found when a text was written.
type signalWriter struct {
	bytes.Buffer
	until string
	found func()
	once  bool
}

func (w *signalWriter) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if !w.once && strings.Contains(w.String(), w.until) {
		w.once = true
		w.found()
	}
	return n, err
}
