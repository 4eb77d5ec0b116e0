package stream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-stream/moldau/stream"
	"github.com/moldau-stream/moldau/stream/streamtest"
)

func TestMistakesOfStartAt(t *testing.T) {
	b := stream.NewBuilder()
	stream.From(b, lines, stream.StartAt(stream.Latest()))
	stream.From(b, lines)
	stream.From(b, numbers, stream.StartAt(stream.Ago(-time.Second)))
	stream.From(b, letters).Filter(func(string, string) bool { return true }, stream.StartAt(stream.Latest()))
	_, err := b.Build()
	require.ErrorContains(t, err, "start_test.go:17: topic lines is read from another start than at stream/start_test.go:16: give both the same option StartAt")
	require.ErrorContains(t, err, "start_test.go:18: From: option StartAt: Ago(-1s) is in the future")
	require.ErrorContains(t, err, "start_test.go:19: Filter does not take the option StartAt")
}

func TestAppBeginsWhereTheSourceSays(t *testing.T) {
	now := time.Now()
	for name, tt := range map[string]struct {
		start stream.Start
		want  []string
	}{
		"earliest": {stream.Earliest(), []string{"old", "newer", "new"}},
		"latest":   {stream.Latest(), []string{"new"}},
		"ago":      {stream.Ago(time.Hour), []string{"newer", "new"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.topic("lines", 1)
			c.topic("letters", 1)
			require.NoError(t, c.cl.ProduceSync(c.ctx(),
				&kgo.Record{Topic: "lines", Value: []byte("old"), Timestamp: now.Add(-2 * time.Hour)},
				&kgo.Record{Topic: "lines", Value: []byte("newer"), Timestamp: now},
			).FirstErr())
			b := stream.NewBuilder()
			stream.From(b, appLines, stream.StartAt(tt.start)).To(letters)
			r := c.start(build(t, b), c.config(stream.ExactlyOnce))
			r.ready()
			c.send("lines", 1, "new")
			c.eventually("the new line is written", func() bool {
				all := c.read("letters")
				return len(all) > 0 && string(all[len(all)-1].Value) == "new"
			})
			r.close()
			var got []string
			for _, r := range c.read("letters") {
				got = append(got, string(r.Value))
			}
			require.Equal(t, tt.want, got)
		})
	}
}

func TestAppWithoutCommittedOffsetsFailsIfTheSourceWantsThem(t *testing.T) {
	c := newCluster(t)
	c.topic("lines", 1)
	b := stream.NewBuilder()
	stream.From(b, appLines, stream.StartAt(stream.CommittedOnly())).ForEach(func(string, string) {})
	r := c.start(build(t, b), c.config(stream.ExactlyOnce))
	require.ErrorContains(t, r.wait(), "topic lines, partition 0: nothing is committed, and its source says CommittedOnly")
}

func ExampleStartAt() {
	b := stream.NewBuilder()
	stream.From(b, songs, stream.StartAt(stream.Ago(24*time.Hour))).To(lyrics)
	d := streamtest.New(example{}, b)
	streamtest.Input(d, songs).Send("Ema", "la la")
	show(d, lyrics)
	// Output: Ema la la
}
