package server

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// connPairs are the kinds of connections that an input reads.
func connPairs(t *testing.T) map[string]func() (client, server net.Conn) {
	return map[string]func() (client, server net.Conn){
		"pipe": func() (net.Conn, net.Conn) { return newPipe(inProcessAddr("a:0"), inProcessAddr("b:0")) },
		"tcp": func() (net.Conn, net.Conn) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer func() { require.NoError(t, l.Close()) }()
			client, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			server, err := l.Accept()
			require.NoError(t, err)
			return client, server
		},
	}
}

func TestInputGivesWhatWasWritten(t *testing.T) {
	for name, pair := range connPairs(t) {
		t.Run(name, func(t *testing.T) {
			client, server := pair()
			want := make([]byte, 300_000)
			rng := rand.NewChaCha8([32]byte{1})
			_, _ = rng.Read(want)
			go func() {
				for rest := want; len(rest) > 0; {
					n := min(1+int(rng.Uint64()%9000), len(rest))
					if _, err := client.Write(rest[:n]); err != nil {
						t.Error(err)
					}
					rest = rest[n:]
				}
				_ = client.Close()
			}()
			in := newInput(server)
			require.NotNil(t, in.idle)
			r := rand.New(rand.NewPCG(1, 2))
			var got []byte
			for {
				n := 1 + r.IntN(4)
				if err := in.await(n); err != nil {
					require.ErrorIs(t, err, io.EOF)
					require.Zero(t, in.buffered())
					break
				}
				require.GreaterOrEqual(t, in.buffered(), n)
				p := make([]byte, 1+r.IntN(6000))
				k, err := in.Read(p)
				require.NoError(t, err)
				got = append(got, p[:k]...)
				in.release()
				require.Equal(t, in.buffered() == 0, in.buf == nil, "a buffer is held iff something is in it")
				require.Less(t, len(got), len(want)+1)
				if len(got) > len(want)-4 {
					rest, err := io.ReadAll(in)
					require.NoError(t, err)
					got = append(got, rest...)
					break
				}
			}
			require.True(t, bytes.Equal(want, got))
			require.NoError(t, server.Close())
		})
	}
}

func TestIdleInputHoldsNoBuffer(t *testing.T) {
	for name, pair := range connPairs(t) {
		t.Run(name, func(t *testing.T) {
			client, server := pair()
			in := newInput(server)
			require.NoError(t, server.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
			require.ErrorIs(t, in.await(4), os.ErrDeadlineExceeded)
			require.Nil(t, in.buf)
			_, err := client.Write([]byte("abc"))
			require.NoError(t, err)
			require.NoError(t, server.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
			require.ErrorIs(t, in.await(4), os.ErrDeadlineExceeded)
			require.Equal(t, 3, in.buffered(), "what came is kept")
			_, err = client.Write([]byte("d"))
			require.NoError(t, err)
			require.NoError(t, server.SetReadDeadline(time.Time{}))
			require.NoError(t, in.await(4))
			var p [8]byte
			n, err := in.Read(p[:])
			require.NoError(t, err)
			require.Equal(t, "abcd", string(p[:n]))
			in.release()
			require.Nil(t, in.buf)
			require.NoError(t, client.Close())
			require.ErrorIs(t, in.await(4), io.EOF)
			require.NoError(t, server.Close())
			require.Error(t, in.await(4))
		})
	}
}

func TestInputTellsACutLength(t *testing.T) {
	for name, pair := range connPairs(t) {
		t.Run(name, func(t *testing.T) {
			client, server := pair()
			_, err := client.Write([]byte("ab"))
			require.NoError(t, err)
			require.NoError(t, client.Close())
			require.ErrorIs(t, newInput(server).await(4), io.ErrUnexpectedEOF)
			require.NoError(t, server.Close())
		})
	}
}
