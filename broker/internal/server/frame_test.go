package server

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func frameOf(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func TestFrameArrivesInAnyPieces(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 30_000)
	for name, r := range map[string]io.Reader{
		"whole":  bytes.NewReader(frameOf(body)),
		"halves": iotest.HalfReader(bytes.NewReader(frameOf(body))),
		"bytes":  iotest.OneByteReader(bytes.NewReader(frameOf(body))),
	} {
		t.Run(name, func(t *testing.T) {
			br := bufio.NewReaderSize(r, 4<<10)
			n, err := frameSize(br, leastFrame, 1<<20)
			require.NoError(t, err)
			grown := 0
			buf, err := readFrame(br, n, func() {}, func(n int) error { grown += n; return nil })
			require.NoError(t, err)
			require.Equal(t, body, buf.B)
			require.Equal(t, len(body)-smallFrame, grown)
		})
	}
}

func TestFrameSizeIsBounded(t *testing.T) {
	for _, n := range []uint32{0, 7, 1<<20 + 1, 1 << 31, 1<<32 - 1, 0x16030100 /* the start of a TLS handshake */} {
		b := binary.BigEndian.AppendUint32(nil, n)
		_, err := frameSize(bufio.NewReader(bytes.NewReader(b)), leastFrame, 1<<20)
		var fault *frameError
		require.ErrorAs(t, err, &fault)
	}
}

func TestCutFrameIsNoFrame(t *testing.T) {
	whole := bytes.NewReader(make([]byte, 100))
	_, err := readFrame(whole, 101, func() {}, nil)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestHeaderOfFlexibleVersionHasTags(t *testing.T) {
	b := appendInt16(nil, int16(kmsg.Metadata))
	b = appendInt16(b, 12)
	b = appendInt32(b, 77)
	b = appendString(b, "me", false)
	b = append(b, 1, 9, 2, 'x', 'y') // one tag, number 9, two bytes
	b = append(b, "body"...)
	h, rest, err := parseHeader(b)
	require.NoError(t, err)
	body, err := skipTags(rest)
	require.NoError(t, err)
	require.Equal(t, header{key: 3, version: 12, correlation: 77, clientID: "me"}, h)
	require.Equal(t, "body", string(body))
}

func TestOutputKeepsPiecesInOrder(t *testing.T) {
	o := &output{meta: []byte("ab")}
	o.insert([]byte("12"))
	o.meta = append(o.meta, 'c')
	o.insert(nil)
	o.insert([]byte("3"))
	o.insert([]byte("4"))
	o.meta = append(o.meta, 'd')
	near, far := net.Pipe()
	c := &Conn{s: &Server{}, nc: near}
	c.s.cfg.Limits.Stall = time.Minute
	sent := make(chan error, 1)
	go func() {
		_, err := c.send([]*output{o}, nil)
		sent <- errors.Join(err, near.Close())
	}()
	got, err := io.ReadAll(far)
	require.NoError(t, err)
	require.NoError(t, <-sent)
	require.Equal(t, "ab12c34d", string(got))
	require.Equal(t, 4, o.size)
}

// FuzzFrame reads arbitrary bytes as frames with headers.
func FuzzFrame(f *testing.F) {
	f.Add(frameOf([]byte{0, 18, 0, 3, 0, 0, 0, 1, 0, 2, 'i', 'd', 0, 1, 1, 0}))
	f.Add(frameOf([]byte{0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff}))
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 0})
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReader(bytes.NewReader(in))
		for {
			n, err := frameSize(r, leastFrame, 1<<20)
			if err != nil {
				return
			}
			buf, err := readFrame(r, n, func() {}, func(int) error { return nil })
			if err != nil {
				return
			}
			require.Len(t, buf.B, n)
			h, rest, err := parseHeader(buf.B)
			if err != nil {
				return
			}
			require.LessOrEqual(t, len(h.clientID), maxClientID)
			if body, err := skipTags(rest); err == nil {
				require.Less(t, len(body), n-8)
			}
		}
	})
}
