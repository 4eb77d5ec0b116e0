package controller

import (
	"encoding/binary"
	"errors"
	"math"
)

var errTruncated = errors.New("record ends too early")

// decoder reads KRaft's primitive types. After the first short read everything is zero and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if v := d.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) int32() int32 {
	if v := d.take(4); v != nil {
		return int32(binary.BigEndian.Uint32(v))
	}
	return 0
}

func (d *decoder) int64() int64 {
	if v := d.take(8); v != nil {
		return int64(binary.BigEndian.Uint64(v))
	}
	return 0
}

func (d *decoder) id() (id TopicID) {
	copy(id[:], d.take(16))
	return id
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n == 0 {
		d.bad = true // null where the schema has no null
		return ""
	}
	return string(d.take(n - 1))
}

func (d *decoder) nullableString() *string {
	n := d.uvarint()
	if n == 0 {
		return nil
	}
	s := string(d.take(n - 1))
	return &s
}

func (d *decoder) nodes() []int32 {
	n := d.uvarint()
	if n <= 1 {
		return []int32{}
	}
	n--
	if n > uint64(len(d.b))/4 {
		d.b, d.bad = nil, true
		return nil
	}
	a := make([]int32, n)
	for i := range a {
		a[i] = d.int32()
	}
	return a
}

func (d *decoder) tags(f func(tag uint64, v *decoder)) {
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		tag := d.uvarint()
		v := decoder{b: d.take(d.uvarint())}
		f(tag, &v)
		d.bad = d.bad || v.bad
	}
}

func (d *decoder) bool() bool { return d.byte() != 0 }

func (d *decoder) float64() float64 { return math.Float64frombits(uint64(d.int64())) }

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n == 0 {
		d.bad = true // null where the schema has no null
		return nil
	}
	return append([]byte{}, d.take(n-1)...)
}

// count reads the length of an array whose elements take at least least bytes each.
func (d *decoder) count(least int) int {
	n := d.uvarint()
	if n <= 1 {
		return 0
	}
	if n--; n > uint64(len(d.b)/least) {
		d.b, d.bad = nil, true
		return 0
	}
	return int(n)
}

// ids reads an array of UUIDs that may be null; an empty one is not nil.
func (d *decoder) ids() []TopicID {
	n := d.uvarint()
	if n == 0 {
		return nil
	}
	if n--; n > uint64(len(d.b)/16) {
		d.b, d.bad = nil, true
		return nil
	}
	a := make([]TopicID, n)
	for i := range a {
		a[i] = d.id()
	}
	return a
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))+1), s...)
}

func appendNullableString(dst []byte, s *string) []byte {
	if s == nil {
		return append(dst, 0)
	}
	return appendString(dst, *s)
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))+1), b...)
}

func appendNodes(dst []byte, a []int32) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(a))+1)
	for _, n := range a {
		dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	}
	return dst
}

func appendIDs(dst []byte, a []TopicID) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(a))+1)
	for _, id := range a {
		dst = append(dst, id[:]...)
	}
	return dst
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// tagged collects the tagged fields of a record, which come in the order of their numbers.
type tagged struct {
	n uint64
	b []byte
}

func (t *tagged) add(number uint64, value []byte) {
	t.b = binary.AppendUvarint(t.b, number)
	t.b = binary.AppendUvarint(t.b, uint64(len(value)))
	t.b = append(t.b, value...)
	t.n++
}

func (t *tagged) appendTo(dst []byte) []byte { return append(binary.AppendUvarint(dst, t.n), t.b...) }

// someNodes reads an array of node ids; an empty one is nil.
func (d *decoder) someNodes() []int32 {
	if a := d.nodes(); len(a) > 0 {
		return a
	}
	return nil
}
