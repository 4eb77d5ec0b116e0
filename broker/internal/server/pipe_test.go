package server

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func pipe() (net.Conn, net.Conn) { return newPipe(inProcessAddr("a:1"), inProcessAddr("b:2")) }

func TestPipeCarriesBytesInOrder(t *testing.T) {
	a, b := pipe()
	const total = 5 << 20
	sent := sha256.New()
	go func() {
		rng := rand.New(rand.NewPCG(1, 1))
		for n := 0; n < total; {
			p := make([]byte, min(rng.IntN(400_000), total-n))
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			sent.Write(p)
			k, err := a.Write(p)
			if err != nil || k != len(p) {
				_ = b.Close() // ends the reader, which finds bytes missing
				return
			}
			n += k
		}
		_ = a.Close()
	}()
	got := sha256.New()
	rng := rand.New(rand.NewPCG(2, 2))
	n := 0
	for {
		p := make([]byte, 1+rng.IntN(300_000))
		k, err := b.Read(p)
		got.Write(p[:k])
		n += k
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
	}
	require.Equal(t, total, n)
	require.Equal(t, sent.Sum(nil), got.Sum(nil))
}

func TestPipeEnds(t *testing.T) {
	a, b := pipe()
	_, err := a.Write([]byte("last"))
	require.NoError(t, err)
	require.NoError(t, a.Close())
	got, err := io.ReadAll(b)
	require.NoError(t, err)
	require.Equal(t, "last", string(got), "what was written before the close arrives")
	_, err = b.Write([]byte("x"))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	_, err = a.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = a.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, a.Close())
}

func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe()
		require.NoError(t, b.SetReadDeadline(time.Now().Add(time.Second)))
		began := time.Now()
		_, err := b.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		var timeout net.Error
		require.True(t, errors.As(err, &timeout) && timeout.Timeout())
		require.Equal(t, time.Second, time.Since(began))

		require.NoError(t, b.SetReadDeadline(time.Time{}))
		_, err = a.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(b, make([]byte, 1))
		require.NoError(t, err, "a deadline that was taken back does not end reads")

		require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Second)))
		n, err := a.Write(bytes.Repeat([]byte("x"), pipeBuffer+1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, pipeBuffer, n, "what the buffer took counts")
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
	})
}
