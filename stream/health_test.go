package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The trouble is a broker that cannot be connected to or that hangs, not one that ends a connection; an answer ends it.
func TestTroubleWithBrokers(t *testing.T) {
	var said []string
	h := newHealth(func(trouble string) { said = append(said, trouble) })
	b := kgo.BrokerMetadata{Host: "kafka", Port: 9092}
	answer := func(err error) { h.OnBrokerE2E(b, 1, kgo.BrokerE2E{ReadErr: err}) }
	answer(nil)
	answer(io.EOF)
	h.OnBrokerConnect(b, 0, nil, nil)
	h.OnBrokerConnect(b, 0, nil, context.Canceled)
	require.Empty(t, said)

	h.OnBrokerConnect(b, 0, nil, errors.New("refused"))
	require.Equal(t, "broker kafka:9092 cannot be reached: refused", said[0])
	since, err := h.trouble()
	require.False(t, since.IsZero())
	require.EqualError(t, err, "broker kafka:9092 cannot be reached: refused")
	answer(io.EOF)
	require.Len(t, said, 1)
	answer(nil)
	require.Equal(t, "", said[1])
	_, err = h.trouble()
	require.NoError(t, err)

	answer(&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded})
	require.Equal(t, "broker kafka:9092 cannot be reached: it does not answer: read tcp: i/o timeout", said[2])
	answer(nil)
	require.Equal(t, "", said[3])
}
