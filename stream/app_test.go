package stream_test

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/stream"
)

func (c *cluster) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c.mu.Lock()
	b := c.b
	c.mu.Unlock()
	return b.DialContext(ctx, network, addr)
}

func TestWordCount(t *testing.T) {
	for _, g := range []stream.Guarantee{stream.ExactlyOnce, stream.AtLeastOnce} {
		t.Run(g.String(), func(t *testing.T) {
			c := newCluster(t)
			c.topic("lines", 4)
			c.topic("word-counts", 4)
			c.send("lines", 4, "to be or not", "to be", "that is", "the question", "to")
			r := c.start(wordCount(t), c.config(g))
			r.ready()
			want := map[string]int64{"to": 3, "be": 2, "or": 1, "not": 1, "that": 1, "is": 1, "the": 1, "question": 1}
			c.eventually("all input is committed", func() bool { return c.committed("wc", "lines") == 5 })
			c.eventually("all words are counted", func() bool { return len(c.table("word-counts")) == len(want) })
			r.close()
			require.Equal(t, want, c.table("word-counts"))
		})
	}
}
