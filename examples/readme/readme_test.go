package readme

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker"
	"github.com/moldau-stream/moldau/broker/brokertest"
	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

func TestWordCount(t *testing.T) {
	b := stream.NewBuilder()
	wordCount(b)
	d := streamtest.New(t, b)
	in, out := streamtest.Input(d, lines), streamtest.Output(d, wordCounts)

	in.Send("", "to be or not to be")

	require.Len(t, out.Drain(), 6) // the driver emits every update; an application emits at its commits
	n, ok := streamtest.Get(d, counts, "be")
	require.True(t, ok)
	require.Equal(t, int64(2), n)
}

func TestAProducerLosesAnAnswer(t *testing.T) {
	b := brokertest.New(t) // in memory, no port; gone at the end of the test
	client, err := kgo.NewClient(kgo.Dialer(b.DialContext), kgo.SeedBrokers(broker.InProcessAddr), kgo.AllowAutoTopicCreation())
	require.NoError(t, err)
	defer client.Close()

	b.LoseAnswers(kmsg.Produce, 1) // performed, but the client gets no answer and has to ask again
	require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Value: []byte("one")}).FirstErr())

	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), "orders")
	require.NoError(t, err)
	require.EqualValues(t, 1, ends["orders"][0].Offset) // idempotent: it is there once
}

// Every Go block of README.md stands in this directory word for word, so the compiler and the tests see what readers see.
func TestTheREADMEShowsThisCode(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	var here string
	for _, name := range []string{"readme.go", "readme_test.go", "windows.go", "windows_test.go"} {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		here += string(b)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(strings.ReplaceAll(string(readme), "\r\n", "\n"), -1)
	require.Len(t, blocks, 8)
	for _, block := range blocks {
		require.True(t, strings.Contains(here, block[1]), "README.md shows code that examples/readme does not have:\n%s", block[1])
	}
}

// What the README calls run does run, in an empty directory and again in the same, until it is told to stop.
func TestRun(t *testing.T) {
	t.Chdir(t.TempDir())
	for range 2 {
		ctx, stop := context.WithCancel(t.Context())
		var failure error
		done := make(chan struct{})
		go func() {
			defer close(done)
			failure = run(ctx)
		}()
		require.Eventually(t, func() bool {
			select {
			case <-done:
				return true // too early, see below
			default:
			}
			_, err := os.Stat("state/wordcount/1_3") // the store of the last of the four tasks that count
			return err == nil
		}, time.Minute, 10*time.Millisecond)
		select {
		case <-done:
			t.Fatalf("run ended before it was told to: %v", failure)
		default:
		}
		stop()
		<-done
		require.NoError(t, failure)
		require.NoError(t, os.RemoveAll("state"))
	}
}
