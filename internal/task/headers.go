package task

import (
	"encoding/binary"
	"errors"
)

// EncodedHeaders are the current record's headers in the form in which stores
// keep them for an emission at a commit: nil if there are none. The bytes are
// valid until the next call.
func (c *Context) EncodedHeaders() []byte {
	if len(c.Headers) == 0 {
		return nil
	}
	c.hbuf = appendHeaders(c.hbuf[:0], c.Headers)
	return c.hbuf
}

// appendHeaders writes a varint count, then for each header the length of the
// key and the key, the length of the value (-1: null) and the value.
func appendHeaders(b []byte, hs []Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(hs)))
	for _, h := range hs {
		b = binary.AppendUvarint(b, uint64(len(h.Key)))
		b = append(b, h.Key...)
		if h.Value == nil {
			b = binary.AppendVarint(b, -1)
			continue
		}
		b = binary.AppendVarint(b, int64(len(h.Value)))
		b = append(b, h.Value...)
	}
	return b
}

var errHeaders = errors.New("malformed headers of a stored change")

// decodeHeaders is the reverse of appendHeaders. Values point into b.
func decodeHeaders(dst []Header, b []byte) ([]Header, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 || count > uint64(len(b)) {
		return dst, errHeaders
	}
	b = b[n:]
	for range count {
		kl, n := binary.Uvarint(b)
		if n <= 0 || kl > uint64(len(b)-n) {
			return dst, errHeaders
		}
		h := Header{Key: string(b[n : n+int(kl)])}
		b = b[n+int(kl):]
		vl, n := binary.Varint(b)
		if n <= 0 || vl < -1 || vl > int64(len(b)-n) {
			return dst, errHeaders
		}
		b = b[n:]
		if vl >= 0 {
			h.Value = b[:vl:vl]
			b = b[vl:]
		}
		dst = append(dst, h)
	}
	if len(b) > 0 {
		return dst, errHeaders
	}
	return dst, nil
}
