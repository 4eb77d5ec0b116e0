package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-stream/moldau/broker/internal/replica"
	"github.com/moldau-stream/moldau/internal/buffer"
)

// smallFrame is the size up to which a frame is read without asking the memory budget. Every connection may hold that much.
const smallFrame = 64 << 10

// maxClientID limits the client id, which is a short name.
const maxClientID = 1 << 10

// header is the header of a request.
type header struct {
	key, version int16
	correlation  int32
	clientID     string
}

// parseHeader reads the header of a request, up to the tags that follow in versions with the flexible encoding, and gives the rest.
func parseHeader(frame []byte) (h header, rest []byte, err error) {
	r := reader{b: frame}
	h.key, h.version, h.correlation = r.int16(), r.int16(), r.int32()
	id := r.string() // never compact, even in a flexible header
	if len(id) > maxClientID {
		return h, nil, fmt.Errorf("client id of %d bytes", len(id))
	}
	if !utf8.Valid(id) {
		return h, nil, errors.New("client id is not UTF-8")
	}
	h.clientID = string(id)
	return h, r.b, r.err
}

// skipTags skips the tags of a flexible header and gives the body.
func skipTags(rest []byte) (body []byte, err error) {
	r := reader{b: rest, flexible: true}
	r.tags()
	return r.b, r.err
}

// frameLength is the size of the length in front of a frame.
const frameLength = 4

// leastFrame is the size of a frame with nothing but a header without a client id.
const leastFrame = 8

// frameSize reads the length in front of a frame and checks it.
func frameSize(r io.Reader, least, most int) (int, error) {
	var b [frameLength]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	n := int32(binary.BigEndian.Uint32(b[:]))
	if int64(n) < int64(least) || int64(n) > int64(most) {
		return 0, &frameError{fmt.Sprintf("a frame says that it has %d bytes; it must be %d to %d (is this a Kafka client, and without TLS?)", n, least, most)}
	}
	return int(n), nil
}

// readFrame reads a frame of n bytes. Memory is taken as the bytes arrive, not as the length promises: beyond smallFrame by asking
// grow for each further piece. progress is called before each read that may wait.
func readFrame(r io.Reader, n int, progress func(), grow func(n int) error) (*buffer.Buffer, error) {
	var buf *buffer.Buffer
	if n <= smallInput {
		buf = &buffer.Buffer{B: make([]byte, n)}
	} else {
		buf = buffer.Get(min(n, smallFrame))
	}
	for have := 0; have < n; {
		if have == len(buf.B) {
			size := min(n, 4*len(buf.B))
			if err := grow(size - len(buf.B)); err != nil {
				return nil, err
			}
			buf = buf.Grow(size)
		}
		progress()
		k, err := r.Read(buf.B[have:])
		have += k
		if err != nil && have < n {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return buf, nil
}

// frameError is a fault of the peer that closes its connection.
type frameError struct{ reason string }

func (e *frameError) Error() string { return e.reason }

// output is an encoded answer: meta with pieces of data cut in, so that records go from the log to the connection without
// another copy.
type output struct {
	meta    []byte
	cuts    []cut
	size    int // of meta and all data
	release func()
}

// cut is data that goes out after the first at bytes of meta.
type cut struct {
	at   int
	data []byte
	span *replica.Span // in place of data
}

// insert puts data behind what meta holds now.
func (o *output) insert(data []byte) {
	if len(data) > 0 {
		o.cuts = append(o.cuts, cut{at: len(o.meta), data: data})
		o.size += len(data)
	}
}

// insertSpan is insert with data that is in a file.
func (o *output) insertSpan(s *replica.Span) {
	o.cuts = append(o.cuts, cut{at: len(o.meta), span: s})
	o.size += s.Len()
}

// rawResponse is an answer that encodes itself.
type rawResponse interface {
	// encode appends the body to o.
	encode(o *output)
}

// encode makes the frame of an answer. body is a kmsg.Response or a rawResponse.
func encode(correlation int32, flexibleHeader bool, body any) *output {
	if token, ok := body.(bareToken); ok {
		return &output{meta: append(appendInt32(nil, int32(len(token))), token...), size: 4 + len(token)}
	}
	o := &output{meta: make([]byte, 4, 256)}
	o.meta = appendInt32(o.meta, correlation)
	if flexibleHeader {
		o.meta = append(o.meta, 0)
	}
	switch body := body.(type) {
	case rawResponse: // which may be a kmsg.Response too
		body.encode(o)
	case kmsg.Response:
		o.meta = body.AppendTo(o.meta)
	default:
		panic(fmt.Sprintf("answer of type %T", body))
	}
	o.size += len(o.meta)
	binary.BigEndian.PutUint32(o.meta, uint32(o.size-4))
	return o
}
