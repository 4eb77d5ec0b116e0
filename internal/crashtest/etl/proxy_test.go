package main

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	return l
}

func TestProxy(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p, err := newProxy("127.0.0.1:0")
	require.NoError(t, err)
	defer p.close()
	for range 3 {
		var conns [2]net.Conn
		for i := range conns { // while no server runs
			conns[i], err = net.Dial("tcp", p.addr())
			require.NoError(t, err)
			defer conns[i].Close()
			_, err = conns[i].Write([]byte("hello"))
			require.NoError(t, err)
		}
		server := echo(t)
		p.up(server.Addr().String())
		for _, c := range conns {
			got := make([]byte, 5)
			_, err = io.ReadFull(c, got)
			require.NoError(t, err)
			require.Equal(t, "hello", string(got))
		}
		require.NoError(t, conns[0].(*net.TCPConn).CloseWrite())
		_, err = conns[0].Read(make([]byte, 1))
		require.Equal(t, io.EOF, err, "an orderly end is passed on")
		require.NoError(t, p.down(server.Close))
		_, err = conns[1].Read(make([]byte, 1))
		require.Error(t, err)
		require.NotEqual(t, io.EOF, err, "a reset")
	}
	waits, err := net.Dial("tcp", p.addr())
	require.NoError(t, err)
	defer waits.Close()
}
