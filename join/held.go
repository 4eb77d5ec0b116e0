package join

import (
	"encoding/binary"
	"errors"

	"github.com/moldau-stream/moldau/internal/task"
)

// A record that is held back for its grace has Kafka Streams' bytes, numbers big-endian; n is a length (4) before bytes, -1 for null:
//
//	key    0x00 ‖ time (8) ‖ key ‖ sequence number (4)
//	value  time (8) ‖ offset (8) ‖ topic (n) ‖ partition (4) ‖ number of headers (4) ‖ of each: name (n), value (n)
//	       ‖ null ‖ null ‖ value (n) ‖ 0 (8)
type held struct {
	at      int64
	headers []task.Header
	value   []byte
}

const nullLength = 0xffffffff

var errHeld = errors.New("a record that is held back is malformed")

func appendHeldKey(dst []byte, at int64, key []byte, seq int64) []byte {
	dst = binary.BigEndian.AppendUint64(append(dst, 0), uint64(at))
	return binary.BigEndian.AppendUint32(append(dst, key...), uint32(seq))
}

func splitHeldKey(row []byte) (at int64, key []byte, err error) {
	if len(row) < 13 {
		return 0, nil, errHeld
	}
	return int64(binary.BigEndian.Uint64(row[1:])), row[9 : len(row)-4 : len(row)-4], nil
}

func appendSized(dst, v []byte) []byte {
	if v == nil {
		return binary.BigEndian.AppendUint32(dst, nullLength)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
}

func (h held) append(dst []byte, c *task.Context) []byte {
	tp, offset, _ := c.Input()
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.at))
	dst = binary.BigEndian.AppendUint64(dst, uint64(offset))
	dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(tp.Topic))), tp.Topic...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(c.Partition()))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(h.headers)))
	for _, header := range h.headers {
		dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(header.Key))), header.Key...)
		dst = appendSized(dst, header.Value)
	}
	dst = appendSized(appendSized(dst, nil), nil)
	dst = appendSized(dst, h.value)
	return binary.BigEndian.AppendUint64(dst, 0)
}

// cutter cuts bytes into pieces; after an error there are only zero ones.
type cutter struct {
	b      []byte
	failed bool
}

func (c *cutter) take(n uint64) []byte {
	if c.failed || uint64(len(c.b)) < n {
		c.failed, c.b = true, nil
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *cutter) uint32() uint32 {
	if v := c.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (c *cutter) sized() []byte {
	n := c.uint32()
	if n == nullLength || c.failed {
		return nil
	}
	return c.take(uint64(n))
}

// parseHeld is the reverse of append. Slices point into b.
func parseHeld(b []byte) (h held, err error) {
	c := cutter{b: b}
	if at := c.take(8); at != nil {
		h.at = int64(binary.BigEndian.Uint64(at))
	}
	c.take(8)
	c.sized()
	c.take(4)
	for range c.uint32() {
		key := c.sized()
		h.headers = append(h.headers, task.Header{Key: string(key), Value: c.sized()})
		if c.failed {
			return h, errHeld
		}
	}
	c.sized()
	c.sized()
	h.value = c.sized()
	c.take(8)
	if c.failed || h.value == nil || len(c.b) > 0 {
		return h, errHeld
	}
	return h, nil
}
