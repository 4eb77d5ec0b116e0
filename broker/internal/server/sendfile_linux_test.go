package server

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/moldau-stream/moldau/broker/internal/log"
	"github.com/moldau-stream/moldau/internal/batch"
	"github.com/moldau-stream/moldau/internal/vfs"
)

// spanResult is a log with one large batch, read as a span.
func spanResult(t *testing.T, size int) (want []byte, res log.ReadResult) {
	l, _, err := log.Open(log.Options{FS: vfs.OS(), Dir: filepath.Join(t.TempDir(), "t-0"), Topic: "t", Config: log.DefaultConfig(),
		Now: func() time.Time { return time.UnixMilli(1000) }})
	require.NoError(t, err)
	b := batch.NewBuilder(batch.Options{BaseSequence: batch.NoSequence})
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(i % 251)
	}
	b.Add(batch.Record{Value: value, Timestamp: 1000})
	p, err := b.Build()
	require.NoError(t, err)
	_, err = l.Append(p, 0, log.AppendOptions{})
	require.NoError(t, err)
	l.SetHighWatermark(1)
	read, err := l.Read(0, 1<<20, log.ReadUncommitted, true)
	require.NoError(t, err)
	res, err = l.ReadSpan(0, 1<<20, log.ReadUncommitted, true)
	require.NoError(t, err)
	require.NotNil(t, res.Span)
	t.Cleanup(func() {
		res.Free()
		require.NoError(t, l.Close(true))
	})
	return read.Records, res
}

// tcpPair is a connection with little room in its buffers.
func tcpPair(t *testing.T) (server, client *net.TCPConn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	client = nc.(*net.TCPConn)
	accepted, err := ln.Accept()
	require.NoError(t, err)
	server = accepted.(*net.TCPConn)
	require.NoError(t, server.SetWriteBuffer(8<<10))
	require.NoError(t, client.SetReadBuffer(8<<10))
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	return server, client
}

// refusing is a sender for a file system without sendfile.
type refusing struct{ spanSender }

func (r refusing) span(*log.Span, int) (int, error) { return 0, errNoSendfile }

func TestSpansGoOutBetweenTheOtherPieces(t *testing.T) {
	want, res := spanResult(t, 700_000)
	for name, wrap := range map[string]func(spanSender) spanSender{
		"sendfile": func(s spanSender) spanSender { return s },
		"copied":   func(s spanSender) spanSender { return refusing{s} },
	} {
		t.Run(name, func(t *testing.T) {
			server, client := tcpPair(t)
			c := &Conn{s: &Server{}, nc: server, spans: wrap(spanSenderOf(server))}
			c.s.cfg.Limits.Stall = time.Minute
			plain := &output{meta: []byte("first ")}
			plain.insert([]byte("answer, "))
			o := &output{meta: []byte("head ")}
			o.insertSpan(res.Span)
			o.meta = append(o.meta, " middle "...)
			o.insert([]byte("data"))
			o.insertSpan(res.Span)
			o.meta = append(o.meta, " tail"...)
			require.Equal(t, 2*len(want)+4, o.size)
			sent := make(chan error, 1)
			go func() {
				_, err := c.send([]*output{plain, o}, nil)
				sent <- err
				_ = server.Close()
			}()
			got, err := io.ReadAll(client)
			require.NoError(t, err)
			require.NoError(t, <-sent)
			expected := "first answer, head " + string(want) + " middle data" + string(want) + " tail"
			require.True(t, expected == string(got), "%d bytes", len(got))
		})
	}
}

func TestAClientThatTakesNoSpansIsGivenUp(t *testing.T) {
	_, res := spanResult(t, 1_000_000)
	server, _ := tcpPair(t)
	c := &Conn{s: &Server{}, nc: server, spans: spanSenderOf(server)}
	c.s.cfg.Limits.Stall = 50 * time.Millisecond
	o := &output{meta: []byte("head ")}
	for range 20 { // more than the system buffers
		o.insertSpan(res.Span)
	}
	_, err := c.send([]*output{o}, nil)
	require.ErrorContains(t, err, "has not taken an answer")
}

func TestOnlyPlainConnectionsTakeSpans(t *testing.T) {
	a, b := newPipe(inProcessAddr("a"), inProcessAddr("b"))
	defer a.Close()
	defer b.Close()
	require.Nil(t, spanSenderOf(a))
}
