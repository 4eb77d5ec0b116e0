package broker_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawClient is one connection that asks one thing at a time: quick to make, without
// retries, so that a test knows exactly what was asked and answered.
type rawClient struct {
	conn   net.Conn
	format *kmsg.RequestFormatter
	id     int32
	buf    []byte
}

func dialRaw(dial func(context.Context, string, string) (net.Conn, error)) (*rawClient, error) {
	conn, err := dial(context.Background(), "tcp", "in-process:9092")
	if err != nil {
		return nil, err
	}
	return &rawClient{conn: conn, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw"))}, nil
}

// do asks in the version that the request has and returns the answer. The answer may
// share the client's buffer until the next one.
func do[R kmsg.Response](c *rawClient, req kmsg.Request) (R, error) {
	resp := req.ResponseKind().(R)
	c.id++
	c.buf = c.format.AppendRequest(c.buf[:0], req, c.id)
	if _, err := c.conn.Write(c.buf); err != nil {
		return resp, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return resp, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return resp, err
	}
	if got := int32(binary.BigEndian.Uint32(body)); got != c.id {
		return resp, fmt.Errorf("answer %d to request %d", got, c.id)
	}
	body = body[4:]
	if resp.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		if body[0] != 0 {
			return resp, fmt.Errorf("%T has header tags", resp)
		}
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}
